"""Trackers: what a package is asked to do from the events of a run."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from kdspec.api.tracker import FinalResults, Tracker
from kdspec.events import Evaluated, Note, RunFailed, RunFinished, RunStarted, StageStarted, StepDone

STARTED = RunStarted("first", ("distil",), {"kdspec": "1"}, 0, None)
STAGE = StageStarted("distil", 6, 1.0, 12, 0)
STEP = StepDone("distil", 1, 0, 0.5, {"soft_labels": 0.25}, {}, {"student": 0.1}, None, 0.1, 4, 8, (0.5,))
EVALUATED = Evaluated("distil", 3, "validation", "student", {"accuracy": 0.75}, best=True)
FACTS = {"role": "student", "split": "test", "parameters": 3, "bytes": 12, "latency_ms": None}
ROWS = {
    "student.words": {"model": "student", "task": "words", "metrics": {"accuracy": 0.5}, "rows": 4, **FACTS},
    "student.scores": {"model": "student", "task": "scores", "metrics": {"mse": 0.1}, "rows": 4, **FACTS},
}


class Notebook(Tracker):
    """Notes its calls."""

    name = "notebook"
    calls: list

    def begin(self, started, known):
        type(self).calls.append(("begin", started.name, known))
        return known or "run-1"

    def log_settings(self, started):
        self.calls.append(("log_settings", self.spec, started.versions))

    def begin_stage(self, stage):
        self.calls.append(("begin_stage", stage))

    def log(self, values, *, stage, step):
        self.calls.append(("log", values, stage, step))

    def log_failure(self, failure):
        self.calls.append(("log_failure", failure))

    def log_results(self, results):
        self.calls.append(("log_results", results))

    def end(self, outcome):
        self.calls.append(("end", outcome))


@pytest.fixture
def tracker(monkeypatch):
    monkeypatch.setattr(Notebook, "calls", [], raising=False)
    return Notebook


@pytest.fixture
def start(tracker, tmp_path):
    """A start of the run with these events; the calls that it makes."""
    (tmp_path / "spec.yaml").write_text("name: first\n")

    def started(*events, track=("notebook",)):
        before = len(tracker.calls)
        with ExitStack() as at_end:
            session = SimpleNamespace(track=track, kept={}, folder=tmp_path, at_end=at_end)
            for event in events:
                tracker.observe(event, session)
        return tracker.calls[before:]

    return started


def test_curves_are_named_by_their_stage(start):
    assert start(STARTED, STAGE, STEP, Note("info", ""), EVALUATED)[2:-1] == [
        ("begin_stage", "distil"),
        ("log", {"distil/loss": 0.5, "distil/terms/soft_labels": 0.25, "distil/lr/student": 0.1}, "distil", 1),
        ("log", {"distil/validation/accuracy": 0.75}, "distil", 3),
    ]


def test_a_later_start_continues_the_run_of_the_first(start, tmp_path):
    assert start(STARTED) == [
        ("begin", "first", None),
        ("log_settings", {"name": "first"}, {"kdspec": "1"}),
        ("end", "stopped"),
    ]
    assert (tmp_path / "notebook-id.txt").read_text() == "run-1"
    assert start(STARTED, STEP)[0] == ("begin", "first", "run-1")
    assert [name for name, *_ in start(STARTED)] == ["begin", "end"]


def test_the_run_is_kept_before_its_settings_are_logged(start, tracker, tmp_path, monkeypatch):
    monkeypatch.setattr(tracker, "log_settings", lambda self, started: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        start(STARTED)
    assert start(STARTED)[0] == ("begin", "first", "run-1")


def test_a_finished_run_has_its_table_its_metrics_and_its_report(start, tmp_path):
    (tmp_path / "report.html").write_text("")
    *_, (name, results), end = start(STARTED, STEP, RunFinished(1.0, ROWS))
    assert (name, end) == ("log_results", ("end", "finished"))
    facts = ("model", "role", "task", "split", "parameters", "bytes", "latency_ms")
    assert results.columns == (*facts, "accuracy", "mse")
    assert [[*row] for row in results.table] == [[*results.columns]] * 2
    assert [row["mse"] for row in results.table] == [None, 0.1]
    assert results.metrics == {"words/student/accuracy": 0.5, "scores/student/mse": 0.1}
    assert results.report == tmp_path / "report.html"


def test_without_a_report_there_is_none(start):
    *_, (_, results), _ = start(STARTED, RunFinished(1.0, ROWS))
    assert results == FinalResults(tuple(ROWS.values()), None)


def test_a_failed_run_is_logged_with_its_reason(start):
    assert start(STARTED, STEP, RunFailed("KD501", "the loss is not finite"))[-2:] == [
        ("log_failure", "KD501 the loss is not finite"),
        ("end", "failed"),
    ]


def test_a_run_that_does_not_name_the_tracker_is_left_alone(start):
    assert start(STARTED, STEP, RunFinished(1.0, ROWS), track=("wandb",)) == []


def test_a_start_that_is_refused_before_its_first_event_is_no_run_of_the_service(start):
    assert start(RunFailed("KD509", "it reads other rows")) == []


def test_each_start_has_an_object_of_its_own(start, tracker, monkeypatch):
    seen = []
    monkeypatch.setattr(tracker, "end", lambda self, outcome: seen.append(self))
    start(STARTED)
    start(STARTED)
    assert seen[0] is not seen[1]
