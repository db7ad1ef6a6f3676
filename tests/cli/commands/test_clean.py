"""`kdspec clean`."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest

from kdspec.testing import run, tiny

SPEC = """\
kdspec: 1
name: small
tasks:
  rows:
    sequence_classification: {data: {csv: {train: rows.csv}}, text: text, label: label}
models:
  teacher: {transformers: {path: teacher}}
stages:
  tune:
    distiller: {supervised: {model: teacher}}
    training: {epochs: 1, batch_size: 2, checkpoint: {every_steps: 1}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a finished run that has trained a teacher alone."""
    monkeypatch.chdir(tmp_path)
    tiny("teacher")
    Path("rows.csv").write_text("text,label\na,x\nb,y\nc,x\nd,y\n")
    Path("spec.yaml").write_text(SPEC)
    return run(SPEC, "runs").folder


def test_checkpoints_of_finished_stages_go_and_the_rest_stays(kdspec, folder):
    assert list(folder.glob("checkpoints/tune/step-*"))
    outcome = kdspec("clean", str(folder))
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("removed the checkpoints of stage tune\n")
    assert "iB freed" in outcome.out
    assert not (folder / "checkpoints/tune").exists()
    assert (folder / "student/model.safetensors").is_file()
    again = run(SPEC, "runs")
    assert again.already_finished
    assert kdspec("clean", str(folder)).out == "there are no checkpoints of finished stages\n"


def test_the_end_of_a_run_says_what_they_take_and_calls_no_teacher_a_student(kdspec, folder):
    outcome = kdspec("run", "spec.yaml")
    assert "the checkpoints have" in outcome.err
    assert "  kdspec clean runs/small\n" in outcome.err
    assert "model    runs/small/student" in outcome.out
    assert "trained" in outcome.out
    assert "baseline" not in outcome.out
    log = (folder / "events.jsonl").read_text()
    assert "the last state of `teacher` is kept" in log


def test_the_plan_and_the_report_name_the_model_that_is_trained(kdspec, folder):
    plan = kdspec("plan", "spec.yaml").out
    assert "trained: teacher" in plan
    assert "student" not in plan.replace("teacher → student", "")
    kdspec("report", str(folder))
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert ("<small>student</small>" in page, "<small>teacher</small>" in page) == (False, True)


def test_another_folder_is_refused(kdspec, tmp_path):
    outcome = kdspec("clean", str(tmp_path))
    assert (outcome.code, "error[KD003]" in outcome.err) == (2, True)


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """A cache folder with three teacher caches: one that is in use, one that is old, and one that is damaged."""
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "caches"))
    made = []
    for digit, days, text in (("a", 1, '{"teacher": "new"}'), ("b", 31, '{"teacher": "old"}'), ("c", 1, "{")):
        place = tmp_path / "caches" / (digit * 32)
        place.mkdir(parents=True)
        (place / "cache.json").write_text(text)
        stamp = time.time() - days * 86_400
        os.utime(place / "cache.json", (stamp, stamp))
        made.append(place)
    return made


def with_checkpoints(folder):
    place = folder / "checkpoints" / "distil" / "step-4"
    place.mkdir(parents=True)
    (place / "state").write_bytes(b"x" * 2**20)
    return place


def test_without_a_run_it_proposes_finished_runs_and_unused_caches(
    kdspec, folder_of_run, caches, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    half = with_checkpoints(folder_of_run("half", ends="unfinished"))
    with_checkpoints(folder_of_run("done"))
    outcome = kdspec("clean")
    assert (outcome.code, outcome.out) == (2, "")
    assert "1.00 MiB  checkpoints of the finished run runs/done\n" in outcome.err
    assert "teacher cache bbbbbbbb of old, last used " in outcome.err
    assert "teacher cache cccccccc, damaged\n" in outcome.err
    assert "half" not in outcome.err
    assert "aaaaaaaa" not in outcome.err
    assert "nobody can be asked; add `--yes`" in outcome.err
    assert half.is_dir()
    assert all(place.is_dir() for place in caches)


def test_a_finished_run_and_unused_caches_go_with_yes(kdspec, folder, caches, folder_of_run):
    half = with_checkpoints(folder_of_run("half", ends="unfinished"))
    outcome = kdspec("clean", "--yes")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("runs/small:\nremoved the checkpoints of stage tune\n")
    assert "removed the teacher cache bbbbbbbb, " in outcome.out
    assert not (folder / "checkpoints/tune").exists()
    assert [place.is_dir() for place in (half, *caches)] == [True, True, False, False]
    assert kdspec("clean", "--yes").out.startswith("nothing to remove: ")


@pytest.mark.parametrize(("answer", "goes"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_on_a_terminal_it_asks(kdspec, caches, tmp_path, monkeypatch, answer, goes):
    monkeypatch.chdir(tmp_path)
    answers = io.StringIO(answer)
    answers.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", answers)
    outcome = kdspec("clean")
    assert outcome.code == 0
    assert "remove them, " in outcome.err
    assert ("nothing was removed" in outcome.err) != goes
    assert caches[1].is_dir() != goes


def test_nothing_to_remove_is_said_and_nothing_is_asked(kdspec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "none"))
    outcome = kdspec("clean", "--output", "elsewhere")
    assert (outcome.code, outcome.err) == (0, "")
    assert "in `elsewhere`" in outcome.out
