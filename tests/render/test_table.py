"""The table of models."""
# ruff: noqa: RUF001 - a multiplication sign is one

from __future__ import annotations

import math

import pytest
from rich.console import Console

from kdspec.render.table import caption, columns, count, table

TEACHER = {
    "model": "teacher",
    "role": "teacher",
    "task": "reviews",
    "split": "test",
    "metrics": {"accuracy": 0.9, "f1": 0.8},
    "agreement": None,
    "agrees_on": None,
    "parameters": 22_713_216,
    "bytes": 90_900_000,
    "latency_ms": 20.0,
    "lower_is_better": ["loss", "perplexity"],
    "selected_by": "accuracy",
    "rows": 50,
    "labelled": 50,
}
STUDENT = TEACHER | {
    "model": "student",
    "role": "student",
    "metrics": {"accuracy": 0.81, "f1": 0.7},
    "agreement": 0.875,
    "agrees_on": "rows with the same class",
    "parameters": 4_386_178,
    "bytes": 17_500_000,
    "latency_ms": 0.5,
}


def cells(rows, name):
    column = next(column for column in columns(rows) if column.name == name)
    return [(cell.text, cell.beside) for cell in column.cells]


def test_a_student_stands_beside_its_teacher():
    rows = [TEACHER, STUDENT]
    assert cells(rows, "accuracy") == [("0.9000", ""), ("0.8100", "90.0 % of teacher")]
    assert cells(rows, "f1")[1] == ("0.7000", "")
    assert cells(rows, "parameters") == [("22.7 M", ""), ("4.4 M", "5.2× fewer")]
    assert cells(rows, "size") == [("90.9 MB", ""), ("17.5 MB", "")]
    assert cells(rows, "latency") == [("20.0 ms", ""), ("0.50 ms", "40.0× faster")]
    assert cells(rows, "agreement") == [("", ""), ("87.5 %", "")]


def test_another_teacher_has_no_share_of_the_first():
    rows = [TEACHER, TEACHER | {"model": "second", "metrics": {"accuracy": 0.99}}, STUDENT]
    assert [beside for _, beside in cells(rows, "accuracy")] == ["", "", "90.0 % of teacher"]


def test_metrics_of_confidence_are_shown_where_one_selects():
    metrics = {"accuracy": 0.8, "ece": 0.05, "ece_adaptive": 0.06, "brier": 0.3, "nll": 0.4, "coverage_at_95": 0.5}
    rows = [row | {"metrics": metrics} for row in (TEACHER, STUDENT)]
    assert not {column.name for column in columns(rows)} & (metrics.keys() - {"accuracy"})
    rows = [row | {"selected_by": "ece"} for row in rows]
    assert metrics.keys() <= {column.name for column in columns(rows)}


def test_a_calibrated_student_stands_beside_what_it_was_before():
    metrics = {"accuracy": 0.8, "ece": 0.02, "nll": 0.4}
    calibration = {
        "method": "temperature",
        "values": {},
        "before": {"accuracy": 0.8, "ece": 0.08, "nll": 0.5},
        "bins": None,
    }
    rows = [TEACHER | {"metrics": metrics}, STUDENT | {"metrics": metrics, "calibration": calibration}]
    assert cells(rows, "ece") == [("0.0200", ""), ("0.0200", "before 0.0800")]
    assert cells(rows, "accuracy")[1] == ("0.8000", "100.0 % of teacher")
    assert "before: without the calibration" in caption(rows)


@pytest.mark.parametrize("name", ["accuracy", "f1", "mcc"])
def test_the_share_of_the_teacher_is_of_the_metric_that_selects(name):
    rows = [row | {"selected_by": name, "metrics": row["metrics"] | {"mcc": 0.5}} for row in (TEACHER, STUDENT)]
    beside = {metric: cells(rows, metric)[1][1] for metric in ("accuracy", "f1", "mcc")}
    shares = {"accuracy": "90.0 % of teacher", "f1": "87.5 % of teacher", "mcc": "100.0 % of teacher"}
    assert beside == {metric: shares[metric] if metric == name else "" for metric in shares}


def test_a_metric_of_which_less_is_better_has_no_share_of_the_teacher():
    rows = [
        row | {"selected_by": "rank", "metrics": {"rank": 2.0}, "lower_is_better": ["rank"]}
        for row in (TEACHER, STUDENT)
    ]
    assert cells(rows, "rank")[1] == ("2.0000", "")


@pytest.mark.parametrize(
    ("changes", "name", "cell"),
    [
        ({"metrics": {"loss": 0.1}}, "loss", ("0.1000", "")),
        ({"metrics": {"accuracy": float("nan")}}, "accuracy", ("nan", "")),
        ({"metrics": {}}, "accuracy", ("", "")),
        ({"parameters": 30_000_000}, "parameters", ("30.0 M", "")),
        ({"latency_ms": 40.0}, "latency", ("40.0 ms", "")),
        ({"latency_ms": None}, "latency", ("", "")),
        ({"task": "other"}, "accuracy", ("0.8100", "")),
        ({"parameters": 0}, "parameters", ("0", "")),
    ],
)
def test_a_ratio_is_shown_only_if_it_is_meaningful(changes, name, cell):
    assert cells([TEACHER, STUDENT | changes], name)[1] == cell


def test_a_recorded_teacher_has_no_cost_of_its_own():
    rows = [TEACHER | {"parameters": None, "bytes": None, "latency_ms": None}, STUDENT]
    assert cells(rows, "parameters") == [("-", ""), ("4.4 M", "")]
    assert cells(rows, "size") == [("-", ""), ("17.5 MB", "")]
    assert cells(rows, "latency") == [("-", ""), ("0.50 ms", "")]
    assert caption(rows).endswith("; latency: one row, median; -: its answers are recorded")
    assert "recorded" not in caption([TEACHER, STUDENT])


def test_metrics_of_unit_vectors_are_columns_once():
    unit = {"s.spearman": 0.7, "s.pearson": 0.8, "s.spearman_dot": 0.7, "s.pearson_dot": 0.8}
    rows = [TEACHER | {"metrics": unit}, STUDENT | {"metrics": unit}]
    names = [column.name for column in columns(rows) if column.name.startswith("s.")]
    assert names == ["s.spearman", "s.pearson"]
    rows[1] = STUDENT | {"metrics": unit | {"s.pearson_dot": 0.6}}
    assert {*unit} <= {column.name for column in columns(rows)}


def test_a_small_model_has_a_size():
    assert cells([STUDENT | {"bytes": 30_800}], "size") == [("30.8 kB", "")]


def test_a_student_alone_needs_no_teacher():
    names = [column.name for column in columns([STUDENT | {"role": "baseline", "agreement": None}])]
    assert "agreement" not in names
    assert "task" not in names


def test_tasks_are_named_where_there_are_several():
    assert cells([TEACHER, STUDENT | {"task": "other"}], "task") == [("reviews", ""), ("other", "")]


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (12, "12"), (1500, "1.5 k"), (4_386_178, "4.4 M"), (1.5e9, "1.5 B")]
)
def test_counts_are_short(number, text):
    assert count(number) == text


def test_the_caption_describes_the_figures():
    told = caption([TEACHER, STUDENT])
    assert (
        told
        == "metrics of the test rows; agreement with the teacher: rows with the same class; latency: one row, median"
    )
    others = [TEACHER, TEACHER, STUDENT, STUDENT | {"task": "names", "agrees_on": "F1 between the entities of both"}]
    assert "agreement with the first teacher: rows with the same class (reviews), F1 between" in caption(others)
    nothing = STUDENT | {"split": "", "agreement": None, "latency_ms": None}
    assert caption([nothing]) == "there were no rows to evaluate on"


@pytest.mark.parametrize("width", [50, 80])
def test_it_fits_a_narrow_terminal_whole(width):
    console = Console(width=width)
    with console.capture() as captured:
        console.print(table([TEACHER, STUDENT]))
    text = captured.get()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert "5.2×" in text


def test_the_caption_tells_of_rows_without_labels():
    assert caption([TEACHER | {"labelled": 12}]).startswith(
        "metrics of the test rows; 12 of 50 test rows have a label;"
    )
    bare = TEACHER | {"labelled": 0, "metrics": {}}
    assert caption([bare]).startswith("no row of test has a label;")
    assert "; no test row of task `names` has a label;" in caption([TEACHER, bare | {"task": "names"}])
    assert "nan: all predicted or all true numbers are equal" in caption([TEACHER | {"metrics": {"pearson": math.nan}}])
