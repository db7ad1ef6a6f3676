"""`kdspec report`."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest

from kdspec.engine.run.event_log import EventLog
from kdspec.events import RunStarted


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a run that has just begun, below the working folder."""
    monkeypatch.chdir(tmp_path)
    path = Path("runs/tiny")
    path.mkdir(parents=True)
    EventLog(path / "events.jsonl").append(RunStarted("tiny", ("distil",), {}, 0, None))
    return path


def test_it_writes_the_page_and_prints_its_path(kdspec, folder):
    outcome = kdspec("report", "runs/tiny")
    assert (outcome.code, outcome.out, outcome.err) == (0, "runs/tiny/report.html\n", "")
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize(("opens", "told"), [(True, ""), (False, "no browser found\n")])
def test_it_opens_the_page(kdspec, folder, monkeypatch, opens, told):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or opens)
    assert kdspec("report", "runs/tiny", "--open").err == told
    assert opened == [(folder / "report.html").resolve().as_uri()]


def test_a_folder_that_is_not_a_run_is_wrong_usage(kdspec, tmp_path):
    outcome = kdspec("report", str(tmp_path))
    assert (outcome.code, outcome.out) == (2, "")
    assert "is not the folder of a run" in outcome.err


def test_a_damaged_line_of_the_log_is_named_and_passed_over(kdspec, folder):
    log = folder / "events.jsonl"
    log.write_bytes(b"{}\n" + log.read_bytes())
    outcome = kdspec("report", "runs/tiny")
    assert outcome.code == 0
    assert "warning: line 1 of `events.jsonl` is not an event of a run: not an event: None" in outcome.err
    assert "line 1 of `events.jsonl`" in (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_of_a_run_is_answered_with_its_folder(kdspec, folder):
    kdspec("report", "runs/tiny")
    outcome = kdspec("report", "runs/tiny/report.html")
    assert outcome.code == 2
    assert "name the folder of the run, `runs/tiny`" in outcome.err
