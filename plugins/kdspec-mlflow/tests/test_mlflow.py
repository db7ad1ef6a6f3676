"""Runs in a local store of MLflow, read back with its client."""

from __future__ import annotations

import json
import os
import signal
from importlib.metadata import version
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

import kdspec
from kdspec import LogitLoss, hookimpl
from kdspec.events import Evaluated, Note, StepDone, curves
from kdspec.testing import tiny

SPEC = """\
kdspec: 1
name: tracked
tasks:
  words:
    sequence_classification:
      data: {csv: {train: rows.csv, validation: rows.csv}}
      text: text
      label: label
models:
  teacher: {transformers: {path: ./teacher}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 1}}}
stages:
  fit:
    distiller: {supervised: {model: teacher}}
    training: {steps: 2, log_every: 1}
  distil:
    distiller: {general: {teacher: teacher, student: student, soft_labels: {loss: kl}, hard_labels: {weight: 0.5}}}
    training: {steps: 6, batch_size: 4, log_every: 1, evaluate: {every_steps: 3}, checkpoint: {every_steps: 2}}
"""


class Stopping:
    """Stops the run after a step, as Ctrl-C does."""

    __name__ = "stopping"

    @hookimpl
    def kdspec_observe(self, event):
        if isinstance(event, StepDone) and (event.stage, event.step) == ("distil", 4):
            os.kill(os.getpid(), signal.SIGINT)


class Infinite(LogitLoss):
    """Infinite."""

    name = "infinite"

    def build(self, context):
        return lambda student, teacher, *, temperature: student.mean() * float("inf")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the spec, its model and its rows."""
    folder = tmp_path_factory.mktemp("tracked")
    tiny(folder / "teacher", layers=2, labels=["a", "b"])
    (folder / "rows.csv").write_text("text,label\n" + "one,a\ntwo,b\n" * 6)
    (folder / "spec.yaml").write_text(SPEC)
    return folder


def run(folder, output, *plugins, track="mlflow", **values):
    """A run of the spec; `values` are those of `set`."""
    return kdspec.run(
        folder / "spec.yaml", output=output, plugins=plugins, track=track, set=values, device="cpu", progress=False
    )


def logged(run, name, stage="distil"):
    """The values of a curve in the log of kdspec, by step."""
    events = [each.event for each in run.events if type(each.event) in (StepDone, Evaluated)]
    found = [(event.step, curves(event)) for event in events if event.stage == stage]
    return {step: values[name] for step, values in found if name in values}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A database, as MLflow has it by default; making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def client(store, tmp_path, monkeypatch):
    """The client, with an experiment of this test alone."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", tmp_path.name)
    monkeypatch.chdir(tmp_path)
    return MlflowClient(store)


def tracked(client):
    """The only run of the experiment."""
    experiment = client.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
    (found,) = client.search_runs([experiment.experiment_id])
    return found


def curve(client, name):
    history = client.get_metric_history(tracked(client).info.run_id, name)
    return {metric.step: metric.value for metric in history}


def test_a_run_is_logged_whole(client, folder, tmp_path):
    ran = run(folder, tmp_path / "runs")
    found = tracked(client)
    assert (found.info.run_name, found.info.status) == ("tracked", "FINISHED")
    assert found.data.params["stages.distil.training.steps"] == "6"
    assert found.data.params["models.student.transformers.like"] == "teacher"
    assert found.data.tags["kdspec"] == version("kdspec")
    for name in ("loss", "terms/soft_labels", "terms/hard_labels", "lr/student", "validation/accuracy"):
        assert curve(client, f"distil/{name}") == pytest.approx(logged(ran, name)) != {}
    assert len(curve(client, "fit/loss")) == 2
    artifacts = {each.path for each in client.list_artifacts(found.info.run_id)}
    assert artifacts == {"report.html", "spec.yaml", "table.json"}
    report = mlflow.artifacts.download_artifacts(run_id=found.info.run_id, artifact_path="report.html")
    assert Path(report).read_text(encoding="utf-8") == ran.report.read_text(encoding="utf-8")
    table = json.loads(mlflow.artifacts.load_text(f"{found.info.artifact_uri}/table.json"))
    accuracy = [row[table["columns"].index("accuracy")] for row in table["data"]]
    assert accuracy == [row["metrics"]["accuracy"] for row in ran.table]
    assert found.data.metrics["words/student/accuracy"] == ran.metrics["accuracy"]


def test_a_resumed_run_continues_its_curves(client, folder, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "runs", Stopping())
    assert tracked(client).info.status == "KILLED"
    ran = run(folder, tmp_path / "runs")
    assert tracked(client).info.status == "FINISHED"
    assert curve(client, "distil/loss") == pytest.approx(logged(ran, "loss"))


def test_a_failing_store_costs_one_warning(client, folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    ran = run(folder, tmp_path / "runs")
    (note,) = [each.event.text for each in ran.events if isinstance(each.event, Note) and "mlflow" in each.event.text]
    assert "it is not called again" in note
    assert ran.metrics


def test_a_failed_run_is_marked(client, folder, tmp_path):
    with pytest.raises(kdspec.RunError, match="KD501"):
        run(folder, tmp_path / "runs", Infinite, **{"stages.distil.distiller.general.soft_labels.loss": "infinite"})
    found = tracked(client)
    assert found.info.status == "FAILED"
    assert "KD501" in found.data.tags["failure"]


def test_without_track_nothing_is_logged(client, folder, tmp_path):
    run(folder, tmp_path / "runs", track=())
    assert client.get_experiment_by_name(tmp_path.name) is None
