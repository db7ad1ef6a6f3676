"""`kdspec clean`."""

from __future__ import annotations

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
