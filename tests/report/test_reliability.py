"""The section of a report on how far confidences can be trusted."""

from __future__ import annotations

import json
import re

import pytest

from kdspec.registry.plugins import Plugins
from kdspec.report import report
from kdspec.report.reliability import reliability_sections

ROW = {
    "model": "student", "role": "student", "task": "reviews", "split": "test", "metrics": {"accuracy": 0.81},
    "agreement": 0.9, "agrees_on": "rows with the same class", "parameters": 4_386_178, "bytes": 17_500_000,
    "latency_ms": 3.2, "lower_is_better": [], "selected_by": "accuracy", "rows": 50, "labelled": 50,
}  # fmt: skip
BINS = [None] * 12 + [[10, 0.83, 0.7], [1234, 0.9, 0.85], [20_000, 0.98, 1.0]]
FOUND = {
    "bins": BINS,
    "coverage": [[0.5, 1.0, 0.98], [1.0, 0.81, 0.8]],
    "asked": [[0.5, 0.0, 0.81, 0.81], [0.9, 0.25, 0.9, 0.86], [1.0, 1.0, None, 0.9]],
}
STUDENT = ROW | {"metrics": {"accuracy": 0.81, "ece": 0.0312, "coverage_at_95": 0.5}, "confidence": FOUND}
TEACHER = ROW | {
    "model": "teacher", "role": "teacher", "latency_ms": 20.0, "metrics": {"ece": 0.01}, "confidence": FOUND,
}  # fmt: skip


def shown(*rows):
    """Title and HTML of each section."""
    return list(reliability_sections(rows))


def test_a_task_has_diagrams_a_curve_and_what_asking_the_teacher_gives():
    ((title, html),) = shown(TEACHER, STUDENT)
    assert title == "How far the confidence can be trusted"
    assert html.count("<svg ") == html.count("</svg>") == 4
    assert html.count('class="bar"') == 2 * 3
    assert re.findall(r"<span>([^<]*)</span><b>([^<]*)</b>", html) == [
        ("ece 0.0100", "teacher: reliability"), ("", "teacher: coverage"),
        ("ece 0.0312", "student: reliability"), ("50.0 %", "student: coverage"),
    ]  # fmt: skip
    assert "10 answers of confidence 0.830: 70.0 % right" in html
    assert re.findall(r'class="count"[^>]*>(\w+)<', html)[:3] == ["10", "1k", "20k"]
    assert re.findall(r"<h3>(.*?)</h3>", html) == ["Asking teacher where student is not sure"]
    assert re.findall(r'<td class="number">(.*?)</td>', html)[5:10] == ["0.9", "25.0 %", "90.0 %", "86.0 %", "8.20 ms"]


def test_the_axis_of_a_coverage_is_that_of_its_line():
    """The point of accuracy 0.8 is at the tick of 0.8, and the dashed line at that of 0.95."""
    ((_, html),) = shown(STUDENT)
    svg = html[html.index('aria-label="coverage of student"') :]
    ticks = {tick: float(y) - 3.5 for y, tick in re.findall(r'<text x="38" y="([\d.]+)">([\d.]+)</text>', svg)}
    assert {"0.8", "0.95", "1"} <= ticks.keys()
    line = re.search(r'points="([^"]*)"', svg)[1].split()
    assert float(line[0].split(",")[1]) == ticks["1"]
    assert float(re.search(r'class="ideal" d="M[\d.]+ ([\d.]+)H', svg)[1]) == ticks["0.95"]
    assert float(line[1].split(",")[1]) == pytest.approx(ticks["0.8"] - (ticks["0.8"] - ticks["0.85"]) / 5, abs=0.2)


def test_a_coverage_without_an_error_has_an_axis():
    perfect = STUDENT | {"confidence": {**FOUND, "coverage": [[1.0, 1.0, 0.9]]}}
    ((_, html),) = shown(perfect)
    assert ">0.9</text>" in html


def test_a_calibrated_student_has_a_diagram_of_before():
    calibration = {"method": "vector", "values": {}, "before": {"ece": 0.2}, "bins": BINS}
    ((_, html),) = shown(STUDENT | {"calibration": calibration})
    assert html.count("<svg ") == 3
    assert re.findall(r"<span>ece ([^<]*)</span>.*?<small>([^<]*)</small>", html) == [
        ("0.2000", "before its calibration"), ("0.0312", "after its calibration (vector)"),
    ]  # fmt: skip
    assert "Asking" not in html  # no teacher


def test_tasks_have_sections_of_their_own_and_models_without_classes_none():
    rows = [STUDENT, STUDENT | {"task": "topics"}, ROW | {"task": "numbers"}]
    assert [title for title, _ in shown(*rows)] == [
        "How far the confidence can be trusted: reviews",
        "How far the confidence can be trusted: topics",
    ]
    assert shown(ROW) == []


def test_names_are_text():
    ((_, html),) = shown(TEACHER | {"model": "<b>t"}, STUDENT | {"model": '<i>"s'})
    assert "<b>t" not in html
    assert "<i>" not in html
    assert "Asking &lt;b&gt;t where &lt;i&gt;&quot;s is not sure" in html


def test_it_is_a_part_of_the_page(tmp_path):
    (tmp_path / "events.jsonl").write_text("", encoding="utf-8")
    (tmp_path / "table.json").write_text(json.dumps([TEACHER, STUDENT]), encoding="utf-8")
    assert "<h2>How far the confidence can be trusted</h2>" in report.html(report.read(tmp_path), Plugins())


@pytest.mark.parametrize("change", [{"bins": [[1]]}, {"coverage": "x"}, {"asked": [[1, 2]]}])
def test_a_damaged_table_is_named(change, tmp_path):
    from kdspec.diagnostics.finding import FindingError

    (tmp_path / "events.jsonl").write_text("", encoding="utf-8")
    table = [STUDENT | {"confidence": FOUND | change}]
    (tmp_path / "table.json").write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(FindingError):
        report.read(tmp_path)
