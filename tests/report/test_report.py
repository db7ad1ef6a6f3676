"""The report of a run, from what its folder holds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from kdspec import hookimpl
from kdspec.api.report import Section
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.event_log import EventLog
from kdspec.events import (
    Evaluated,
    Note,
    RunFailed,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    StepDone,
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


def test_a_run_is_a_page_that_stands_alone(run):
    shown = page(run(*RUN, table_json=[ROW], spec_yaml="name: tiny\n"))
    links = [value for name, value in shown.attributes if name in {"src", "href", "action", "data"}]
    assert links == []
    assert "script" not in shown.tags
    for text in ("tiny", "finished", "4.4 M", "90.0 %", "Curves of distil", "soft_labels", "weight 0.5", "0.1.0"):
        assert text in shown.text
    assert "step 2: 0.7" in shown.text
    assert "name: tiny" in shown.text


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


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2}', "null"])
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


def test_it_is_written_into_the_folder(run):
    folder = run(*RUN)
    path = report.write(report.read(folder), Plugins())
    assert path == folder / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_it_needs_no_torch():
    code = "import sys, kdspec.report.report, kdspec.report.page; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
