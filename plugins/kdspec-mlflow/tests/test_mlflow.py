"""Runs in a local store of MLflow, read back with its client."""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from kdspec.events import Note
from kdspec.testing import SmallRun, logged_curves


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """What is run: nothing in it changes."""
    return SmallRun(tmp_path_factory.mktemp("tracked"), name="tracked")


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


def test_a_run_is_logged_whole(client, small, tmp_path):
    ran = small.run(tmp_path / "runs", track="mlflow")
    found = tracked(client)
    assert (found.info.run_name, found.info.status) == ("tracked", "FINISHED")
    assert found.data.params["stages.distil.training.steps"] == "6"
    assert found.data.params["models.student.transformers.like"] == "teacher"
    assert found.data.tags["kdspec"] == version("kdspec")
    for name, values in logged_curves(ran).items():
        assert curve(client, name) == pytest.approx(values)
    artifacts = {each.path for each in client.list_artifacts(found.info.run_id)}
    assert artifacts == {"report.html", "spec.yaml", "table.json"}
    report = mlflow.artifacts.download_artifacts(run_id=found.info.run_id, artifact_path="report.html")
    assert Path(report).read_text(encoding="utf-8") == ran.report.read_text(encoding="utf-8")
    table = json.loads(mlflow.artifacts.load_text(f"{found.info.artifact_uri}/table.json"))
    accuracy = [row[table["columns"].index("accuracy")] for row in table["data"]]
    assert accuracy == [row["metrics"]["accuracy"] for row in ran.table]
    assert found.data.metrics["words/student/accuracy"] == ran.metrics["accuracy"]


def test_a_resumed_run_continues_its_curves(client, small, tmp_path):
    small.stopped(tmp_path / "runs", track="mlflow")
    assert tracked(client).info.status == "KILLED"
    ran = small.run(tmp_path / "runs", track="mlflow")
    assert tracked(client).info.status == "FINISHED"
    assert curve(client, "distil/loss") == pytest.approx(logged_curves(ran)["distil/loss"])


def test_a_failing_store_costs_one_warning(client, small, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    ran = small.run(tmp_path / "runs", track="mlflow")
    (note,) = [each.event.text for each in ran.events if isinstance(each.event, Note) and "mlflow" in each.event.text]
    assert "it is not called again" in note
    assert ran.metrics


def test_a_failed_run_is_marked(client, small, tmp_path):
    assert "KD501" in str(small.failed(tmp_path / "runs", track="mlflow"))
    found = tracked(client)
    assert found.info.status == "FAILED"
    assert "KD501" in found.data.tags["failure"]


def test_without_track_nothing_is_logged(client, small, tmp_path):
    small.run(tmp_path / "runs")
    assert client.get_experiment_by_name(tmp_path.name) is None
