"""The report of a run, from what its folder holds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from kdspec import hookimpl
from kdspec.api.report import Section
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.event_log import EventLog
from kdspec.events import (
    CacheState,
    Evaluated,
    Note,
    RunFailed,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    StepDone,
    to_json,
)
from kdspec.registry.plugins import Plugin, Plugins
from kdspec.report import report

STARTED = RunStarted("tiny", ("distil",), {"kdspec": "0.1.0"}, 7, None)
ROW = {
    "model": "student",
    "role": "student",
    "task": "reviews",
    "split": "test",
    "metrics": {"accuracy": 0.81},
    "agreement": 0.9,
    "agrees_on": "rows with the same class",
    "parameters": 4_386_178,
    "bytes": 17_500_000,
    "latency_ms": 3.2,
    "lower_is_better": [],
    "selected_by": "accuracy",
    "rows": 50,
    "labelled": 50,
}


class Page(HTMLParser):
    """Checks that tags are closed, and collects the text and the attributes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.attributes, self.tags = [], "", [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data + "\n"


def step(number):
    terms = {"soft_labels": 1.0 / number}
    return StepDone(
        "distil", number, 0, 1.0 / number, terms, {"soft_labels": 0.5}, {"student": 0.1}, 2.0, 0.1, 8, 9, ()
    )


RUN = (
    STARTED,
    StageStarted("distil", 3, 1.0, 24, 0),
    *map(step, (1, 2, 3)),
    Evaluated("distil", 2, "validation", "student", {"accuracy": 0.7}, best=True),
    Note("warning", "something <odd>"),
    StageFinished("distil", 3, 1.0, 2, {"accuracy": 0.7}, "models/student"),
    RunFinished(2.0, {}),
)


@pytest.fixture
def run(tmp_path):
    """Makes the folder of a run with these events and files."""

    def make(*events, **files):
        log = EventLog(tmp_path / "events.jsonl")
        for event in events:
            log.append(event)
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (tmp_path / name.replace("_", ".")).write_text(text, encoding="utf-8")
        return tmp_path

    return make


def page(folder, *plugins):
    loaded = Plugins()
    for number, plugin in enumerate(plugins):
        loaded.add(Plugin("acme", "1", "acme", f"acme{number}", plugin))
    assert loaded.problems == []
    return Page(report.html(report.read(folder), loaded))


def test_the_number_beside_a_metric_is_that_of_the_kept_student(run):
    later = Evaluated("distil", 3, "validation", "student", {"accuracy": 0.6}, best=False)
    shown = page(run(*RUN[:6], later, *RUN[6:]))
    caption = shown.text.partition("validation accuracy")
    assert caption[0].strip().endswith("0.7")
    assert caption[2].lstrip().startswith("student; kept: step 2, the circle")


def test_the_number_beside_a_metric_is_the_last_one_if_no_student_is_chosen(run):
    ended = StageFinished("distil", 3, 1.0, None, {}, "models/student")
    shown = page(run(*RUN[:6], ended))
    caption = shown.text.partition("validation accuracy")
    assert caption[0].strip().endswith("0.7")
    assert "kept" not in caption[2]


def test_a_run_is_a_page_that_stands_alone(run):
    shown = page(run(*RUN, table_json=[ROW], spec_yaml="name: tiny\n"))
    links = [value for name, value in shown.attributes if name in {"src", "href", "action", "data"}]
    assert links
    assert all(link.startswith("#") for link in links)
    assert "script" not in shown.tags
    for text in ("tiny", "finished", "4.4 M", "90.0 %", "Curves of distil", "soft_labels", "weight 0.5", "0.1.0"):
        assert text in shown.text
    assert "step 2: 0.7" in shown.text
    assert "name: tiny" in shown.text
    assert "every setting, defaults included" in shown.text
    assert "details" in shown.tags


def test_the_page_forbids_scripts_and_other_hosts(run):
    policy = dict(page(run(STARTED)).attributes)["content"]
    text = report.html(report.read(run()), Plugins())
    assert re.search(r"Content-Security-Policy\" content=\"default-src 'none'", text)
    assert policy


def test_whatever_a_run_holds_is_escaped(run):
    evil = "<script>alert(1)</script>"
    row = ROW | {"model": evil, "metrics": {evil: 0.5}, "task": evil}
    hostile = StepDone("distil", 1, 0, 1.0, {evil: 1.0}, {evil: 1.0}, {evil: 1.0}, 1.0, 0.1, 8, 9, ())
    shown = page(
        run(
            RunStarted(evil, (evil,), {evil: evil}, 7, None),
            StageStarted(evil, 3, 1.0, 24, 0),
            hostile,
            Note("warning", evil),
            RunFailed("KD501", evil),
            table_json=[row],
            spec_yaml=evil,
        )
    )
    assert "script" not in shown.tags
    assert shown.text.count("alert(1)") > 5


def texts_of(evil):
    """A run with this text wherever a page has one."""
    setting = {"value": evil, "origin": "written"}
    model = {"component": evil, "parameters": {evil: setting}, "origin": "written"}
    plan = {
        "format": 1,
        "name": evil,
        "seed": {"value": 1, "origin": "default"},
        "tasks": [{"name": evil, "task": model}],
        "models": [
            {
                "name": evil,
                "model": model,
                "facts": {"layers": 6, "width": 384, "heads": 12, "family": evil},
                "stages": {evil: "frozen"},
            }
        ],
        "stages": [],
    }
    row = ROW | {"model": evil, "metrics": {evil: 0.5}, "task": evil, "split": evil, "agrees_on": evil}
    events = (
        RunStarted(evil, (evil,), {evil: evil}, 7, None),
        StageStarted(evil, 3, 1.0, 24, 0),
        *(
            StepDone(evil, number, 0, 1.0, {evil: 1.0}, {evil: 1.0}, {evil: 1.0}, 1.0, 0.1, 8, 9, ())
            for number in (1, 2)
        ),
        Evaluated(evil, 2, evil, evil, {evil: 0.7}, best=True),
        CacheState(evil, 0, evil, True, evil, evil, (evil,), 1, 1, 1, 1, 1),
        CacheState(evil + "2", 0, evil, False, evil, evil, (evil,), 1, 1, 1, 1, 1),
        Note("warning", evil),
        RunFailed(evil, evil),
    )
    return events, {"plan_json": plan, "table_json": [row], "spec_yaml": evil}


@pytest.mark.parametrize(
    "codes",
    [
        (*range(9), 0x0B, 0x0C, *range(0x0E, 0x20)),
        range(0x7F, 0xA0),
        (0xAD, 0x200B, 0x200E, 0x200F, 0xFEFF, 0xFFF9, 0xE0041),
        range(0x2028, 0x202F),
        range(0x2060, 0x2070),
        (0xD800, 0xDFFF),
    ],
    ids=["C0", "C1", "hidden", "bidi", "isolates", "surrogates"],
)
def test_no_text_of_a_page_has_a_character_that_moves_hides_or_reorders(tmp_path, codes):
    for code in codes:
        events, files = texts_of(f"a{chr(code)}[31mb")
        spec = files.pop("spec_yaml")
        for name, content in files.items():
            (tmp_path / name.replace("_", ".")).write_text(json.dumps(content), encoding="utf-8")
        shown = report.html(replace(report.read(quick(tmp_path, events)), spec=spec), Plugins())
        assert chr(code) not in shown
        assert shown.count("a\N{REPLACEMENT CHARACTER}[31mb") > 30
        assert shown.encode()


@pytest.mark.parametrize("text", ["пример", "学生", "a b", "é", "naïve — “q”", "🙂"])
def test_text_of_any_script_stays_as_it_is(run, text):
    events, files = texts_of(text)
    assert page(run(*events, **files)).text.count(text) > 20


def test_a_run_in_progress_has_a_report(run):
    shown = page(run(STARTED, StageStarted("distil", 3, 1.0, 24, 0), step(1)))
    assert "not finished" in shown.text
    assert "Models" not in shown.text


def test_a_failure_is_reported(run):
    assert "failed: KD501 a loss" in page(run(STARTED, RunFailed("KD501", "a loss"))).text


def test_a_refused_start_is_no_end_of_the_run_before(run):
    end = report.read(run(*RUN, RunFailed("KD509", "another spec"))).end
    assert isinstance(end.event, RunFinished)


def test_a_run_that_resumes_after_a_failure_is_not_finished(run):
    assert report.read(run(STARTED, RunFailed("KD501", "a loss"), STARTED)).end is None


def test_an_empty_log_has_a_page(run):
    folder = run()
    (folder / "events.jsonl").touch()
    assert folder.name in page(folder).text


@pytest.mark.parametrize("content", ['{"format": 2}', "{}", '{"format": "1"}'])
def test_a_plan_of_another_format_is_left_out(run, content):
    folder = run(*RUN, plan_json=content)
    assert report.read(folder).plan is None
    assert "Plan" not in page(folder).text


def test_the_plan_is_shown_as_the_terminal_does(run):
    setting = {"value": 1, "origin": "default"}
    plan = {
        "format": 1,
        "name": "tiny",
        "seed": setting,
        "tasks": [],
        "models": [
            {
                "name": "teacher",
                "model": {"component": "transformers", "parameters": {}, "origin": "written"},
                "facts": {"layers": 6, "width": 384, "heads": 12, "family": "bert"},
                "stages": {"distil": "frozen"},
            }
        ],
        "stages": [
            {
                "name": "distil",
                "distiller": {"component": "general", "origin": "written"},
                "student": "student",
                "teachers": ["teacher"],
                "tasks": ["reviews"],
                "settings": {},
                "terms": [{"name": "soft_labels", "kind": "soft_labels", "active": True, "settings": {}}],
                "reads": {},
                "training": {"batch_size": setting},
            }
        ],
    }
    shown = page(run(*RUN, plan_json=plan))
    assert "bert 6 × 384, 12 heads" in shown.text  # noqa: RUF001 - a multiplication sign is one
    assert "~batch_size=1" in shown.text
    assert "teacher → student" in shown.text


def test_a_folder_without_a_log_is_not_a_run(tmp_path):
    with pytest.raises(FindingError) as caught:
        report.read(tmp_path / "nothing")
    assert caught.value.findings[0].code == "KD003"


class Adds:
    @hookimpl
    def kdspec_report(self, report):
        steps = sum(1 for _ in report.of(StepDone))
        return [Section("Steps & more", f"<p id='mine'>{steps} steps</p>")]


class Fails:
    @hookimpl
    def kdspec_report(self, report):
        raise ZeroDivisionError("<none>")


class GivesText:
    @hookimpl
    def kdspec_report(self, report):
        return ["<b>text</b>"]


class GivesNothing:
    @hookimpl
    def kdspec_report(self, report):
        return None


def test_a_plugin_adds_a_section(run):
    shown = page(run(*RUN), Adds())
    assert "Steps & more" in shown.text
    assert "3 steps" in shown.text


def test_a_plugin_that_fails_is_a_note_and_stops_nobody_else(run):
    shown = page(run(*RUN), Fails(), GivesText(), GivesNothing(), Adds())
    assert "acme (acme0) is missing: ZeroDivisionError: <none>" in shown.text
    assert "acme (acme1) is missing: returned '<b>text</b>', not a Section" in shown.text
    assert "3 steps" in shown.text


class AddsHidden:
    @hookimpl
    def kdspec_report(self, report):
        return [Section("a\x1b[31m", "<p>\N{RIGHT-TO-LEFT OVERRIDE}evil</p>")]


def test_the_section_of_a_plugin_hides_nothing_either(run):
    shown = page(run(*RUN), AddsHidden()).text
    assert "a\N{REPLACEMENT CHARACTER}[31m" in shown
    assert "\N{REPLACEMENT CHARACTER}evil" in shown


def many_stages(count, steps, terms):
    """The events of stages with many curves."""
    yield STARTED
    for stage in map("stage{}".format, range(count)):
        yield StageStarted(stage, steps, 1.0, 24, 0)
        for number in range(1, steps + 1):
            value = 0.1 + (number * 7919 % 1000) / 1000
            values = {f"term{term}": value * term for term in range(terms)}
            rates, weights = {"student": 0.1 * value, "head": 0.2 * value}, dict.fromkeys(values, 1.0)
            yield StepDone(stage, number, 0, value, values, weights, rates, value, 0.1, 8, 9, (value,))
            if number % 10 == 0:
                metrics = {"loss": value, "accuracy": value}
                yield Evaluated(stage, number, "validation", "student", metrics, best=False)


def quick(folder, events):
    """Writes a log without waiting for the disk."""
    lines = ({"time": "2026-01-01T00:00:00+00:00", **to_json(event)} for event in events)
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("stages", "steps", "terms"), [(200, 200, 6), (480, 20, 3), (3, 1_000, 100)])
def test_a_page_of_many_charts_stays_small(tmp_path, stages, steps, terms):
    text = report.html(report.read(quick(tmp_path, many_stages(stages, steps, terms))), Plugins())
    assert len(text) < 3_100_000
    each = terms + 6 if stages < 480 else 5
    charts = stages * each
    assert text.count("<svg") == text.count('role="img"') == charts
    assert text.count("<title>") >= 2 * charts
    assert text.count("validation accuracy by step") == stages


def test_an_ordinary_page_has_all_points_and_their_titles(tmp_path):
    text = report.html(report.read(quick(tmp_path, many_stages(3, 50, 4))), Plugins())
    assert text.count('<g class="touch">') == 30
    assert "step 50: " in text
    assert text.count("<title>step ") == 3 * (8 * 50 + 2 * 5)


@pytest.mark.parametrize("notes", [1, 500, 1_000, 1_001, 20_000])
def test_many_notes_are_shortened_in_the_middle(tmp_path, notes):
    events = (STARTED, *(Note("info", f"number {number}.") for number in range(notes)))
    text = report.html(report.read(quick(tmp_path, events)), Plugins())
    assert "number 0." in text
    assert f"number {notes - 1}." in text
    assert (f"… {notes - 1_000:,} more notes" in text) == (notes > 1_000)
    assert text.count("<li") <= 1_001


def test_a_log_is_read_once_for_a_page(run):
    class Once:
        def __init__(self, records):
            self.left = iter(records)

        def __iter__(self):
            yield from self.left

    loaded = report.read(run(*RUN))
    assert report.html(replace(loaded, records=Once(loaded.records)), Plugins()) == report.html(loaded, Plugins())


def test_a_plugin_reads_the_events_as_often_as_it_likes(run):
    loaded = report.read(run(*RUN))
    assert [len(list(loaded.of(StepDone))) for _ in range(3)] == [3, 3, 3]
    assert loaded.name == "tiny"


def test_it_is_written_into_the_folder(run):
    folder = run(*RUN)
    path = report.write(report.read(folder), Plugins())
    assert path == folder / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_it_needs_no_torch():
    code = "import sys, kdspec.report.report, kdspec.report.page; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
