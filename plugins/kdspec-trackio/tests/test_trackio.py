"""Runs in the local database of Trackio, read back with its own reader."""

from __future__ import annotations

import os
import signal
from importlib.metadata import version

import pytest

import kdspec
from kdspec import hookimpl
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the spec, its model and its rows."""
    folder = tmp_path_factory.mktemp("tracked")
    tiny(folder / "teacher", layers=2, labels=["a", "b"])
    (folder / "rows.csv").write_text("text,label\n" + "one,a\ntwo,b\n" * 6)
    (folder / "spec.yaml").write_text(SPEC)
    return folder


def run(folder, output, *plugins, track="trackio", **values):
    """A run of the spec; `values` are those of `set`."""
    return kdspec.run(
        folder / "spec.yaml", output=output, plugins=plugins, track=track, set=values, device="cpu", progress=False
    )


def logged(run, name, stage="distil"):
    """The values of a curve in the log of kdspec, by step."""
    events = [each.event for each in run.events if type(each.event) in (StepDone, Evaluated)]
    found = [(event.step, curves(event)) for event in events if event.stage == stage]
    return {step: values[name] for step, values in found if name in values}


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A database of this test alone."""
    from trackio import sqlite_storage, utils

    place = tmp_path / "trackio"
    monkeypatch.setenv("TRACKIO_DIR", str(place))
    for module in (utils, sqlite_storage):  # they read the variable when they are imported
        monkeypatch.setattr(module, "TRACKIO_DIR", place)
    monkeypatch.chdir(tmp_path)
    return sqlite_storage.SQLiteStorage


def tracked(store):
    (name,) = store.get_runs("kdspec")
    return name


def curve(store, name):
    rows = store.get_metric_values("kdspec", tracked(store), name)
    return {row["step"]: row["value"] for row in rows}


def test_a_run_is_logged_whole(store, folder, tmp_path):
    ran = run(folder, tmp_path / "runs")
    name = tracked(store)
    assert name.startswith("tracked-")
    config = store.get_run_config("kdspec", name)
    assert config["stages"]["distil"]["training"]["steps"] == 6
    assert config["versions"]["kdspec"] == version("kdspec")
    for curve_name in ("loss", "terms/soft_labels", "terms/hard_labels", "lr/student", "validation/accuracy"):
        assert curve(store, f"distil/{curve_name}") == pytest.approx(logged(ran, curve_name)) != {}
    assert len(curve(store, "fit/loss")) == 2
    assert list(curve(store, "words/student/accuracy").values()) == [ran.metrics["accuracy"]]
    (table,) = [row["table"] for row in store.get_logs("kdspec", name) if "table" in row]
    assert "trackio.table" in str(table)
    (artifact,) = store.get_run_artifacts("kdspec", name, None)["output"]
    assert artifact["type"] == "report"


def test_a_resumed_run_continues_its_curves(store, folder, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "runs", Stopping())
    ran = run(folder, tmp_path / "runs")
    assert curve(store, "distil/loss") == pytest.approx(logged(ran, "loss"))


def test_a_failing_store_costs_one_warning(store, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("trackio.init", lambda **_: 1 / 0)
    ran = run(folder, tmp_path / "runs")
    (note,) = [each.event.text for each in ran.events if isinstance(each.event, Note) and "trackio" in each.event.text]
    assert "ZeroDivisionError" in note
    assert ran.metrics


def test_without_track_nothing_is_logged(store, folder, tmp_path):
    run(folder, tmp_path / "runs", track=())
    assert not (tmp_path / "trackio").exists()
