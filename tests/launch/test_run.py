"""`kdspec.Run`: the results of a finished run, from its folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_runs import TOYS

import kdspec


@pytest.fixture
def run(toy):
    return toy("run")


def test_the_folder_of_a_run_can_be_opened_later(run):
    found = kdspec.Run("runs/toy", plugins=[TOYS])
    assert (found.table, found.metrics, found.spec) == (run.table, run.metrics, run.spec)
    assert [row["model"] for row in run.table if row["role"] == "student"] == ["student"]
    assert json.loads(Path("runs/toy/table.json").read_text()) == json.loads(json.dumps(run.table))


def test_the_metrics_are_those_of_the_student(toy):
    run = toy("run", set={"stages.distil.training.evaluate": {}, "tasks.rows.tensors.data.ragged": {"validation": 6}})
    (row,) = [row for row in run.table if row["role"] == "student"]
    assert run.metrics == row["metrics"] != {}


def test_the_report_is_written_again_where_it_is_missing(run):
    assert run.report == Path("runs/toy/report.html")
    run.report.unlink()
    assert "toy" in run.report.read_text(encoding="utf-8")


def test_the_student_of_a_plugin_is_its_module_with_the_trained_weights(run):
    student = run.student()
    assert isinstance(student, torch.nn.Module)
    assert not student.training
    saved = load_file("runs/toy/student/model.safetensors")
    assert all(torch.equal(tensor, student.state_dict()[name]) for name, tensor in saved.items())


def test_the_student_of_a_plugin_needs_the_plugin(run):
    with pytest.raises(kdspec.RunError, match="KD201"):
        kdspec.Run("runs/toy").student()


def test_a_student_has_the_tasks_of_its_run(run):
    with pytest.raises(ValueError, match="no task 'row'; did you mean 'rows'"):
        run.student("row")


def test_a_folder_without_a_run_is_refused(run):
    with pytest.raises(kdspec.RunError, match=r"KD003.*not the folder of a run"):
        kdspec.Run("runs")
    with pytest.raises(kdspec.RunError, match="name the folder of the run, `runs/toy`"):
        kdspec.Run("runs/toy/student")


def test_an_unfinished_run_is_refused(run):
    Path("runs/toy/table.json").unlink()
    with pytest.raises(kdspec.RunError, match="has not finished"):
        kdspec.Run("runs/toy")


def test_a_damaged_table_is_named(run):
    Path("runs/toy/table.json").write_text("[{]")
    with pytest.raises(kdspec.RunError, match=r"KD003.*table\.json"):
        kdspec.Run("runs/toy")


def test_without_a_plan_the_student_is_known_by_its_role(run):
    moved = shutil.copytree("runs/toy", "moved")
    (Path(moved) / "plan.json").unlink()
    assert kdspec.Run(moved).metrics == run.metrics
    with pytest.raises(kdspec.RunError, match=r"has no `plan\.json`"):
        kdspec.Run(moved, plugins=[TOYS]).student()
