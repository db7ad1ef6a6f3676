"""Runs in the offline mode of W&B, read back from its files with the messages of the library."""

from __future__ import annotations

import json
import os
import signal
from importlib.metadata import version
from pathlib import Path

import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import Record

import kdspec
from kdspec import LogitLoss, hookimpl
from kdspec.events import Evaluated, Note, StepDone, curves
from kdspec.testing import tiny

BLOCK, HEADER = 32768, 7

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


def run(folder, output, *plugins, track="wandb", **values):
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
def place(tmp_path, monkeypatch):
    """The folder in which W&B writes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()  # the library keeps the settings that it has found first
    yield tmp_path / "wandb"
    wandb.teardown()


def records(file):
    """The records of a file of W&B: after a header the chunks of a LevelDB log, in blocks of 32 KiB."""
    data, at, parts = file.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def tracked(place):
    """The records of all starts of the run, oldest first."""
    files = sorted(place.glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime)
    return [record for file in files for record in records(file)]


def curve(found, name, stage="distil"):
    """The values of a curve by the step of its stage."""
    values = {}
    for record in found:
        items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        if f"{stage}/{name}" in items:
            values[items[f"{stage}/step"]] = items[f"{stage}/{name}"]
    return values


def test_a_run_is_logged_whole(place, folder, tmp_path):
    ran = run(folder, tmp_path / "runs")
    found = tracked(place)
    (begun,) = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    assert (begun.display_name, begun.project) == ("tracked", "kdspec")
    config = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert config["stages"]["distil"]["training"]["steps"] == 6
    assert config["versions"]["kdspec"] == version("kdspec")
    for name in ("loss", "terms/soft_labels", "terms/hard_labels", "lr/student", "validation/accuracy"):
        assert curve(found, name) == pytest.approx(logged(ran, name)) != {}
    assert len(curve(found, "loss", "fit")) == 2
    summary = {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for record in found
        for item in record.summary.update
    }
    assert summary["words/student/accuracy"] == ran.metrics["accuracy"]
    (artifact,) = [
        r.artifact for r in found if r.WhichOneof("record_type") == "artifact" and r.artifact.type == "report"
    ]
    assert [entry.path for entry in artifact.manifest.contents] == ["report.html"]
    (table,) = place.glob("offline-run-*/files/media/table/*.json")
    saved = json.loads(table.read_text(encoding="utf-8"))
    accuracy = [row[saved["columns"].index("accuracy")] for row in saved["data"]]
    assert accuracy == [row["metrics"]["accuracy"] for row in ran.table]
    assert [record.exit.exit_code for record in found if record.WhichOneof("record_type") == "exit"] == [0]


def test_a_resumed_run_continues_its_curves(place, folder, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "runs", Stopping())
    ran = run(folder, tmp_path / "runs")
    found = tracked(place)
    begun = [record.run.run_id for record in found if record.WhichOneof("record_type") == "run"]
    assert (len(begun), len(set(begun))) == (2, 1)
    assert curve(found, "loss") == pytest.approx(logged(ran, "loss"))


def test_nothing_of_it_keeps_the_run_from_resuming(place, folder, tmp_path):
    """W&B makes links beside its files, and a run folder with links is refused."""
    run(folder, tmp_path / "runs")
    assert run(folder, tmp_path / "runs", track=()).metrics


def test_without_a_login_there_is_one_warning(place, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    ran = run(folder, tmp_path / "runs")
    (note,) = [each.event.text for each in ran.events if isinstance(each.event, Note) and "wandb" in each.event.text]
    assert "not logged in to Weights & Biases: run `wandb login`, or set WANDB_MODE=offline" in note
    assert ran.metrics


def test_a_failed_run_is_marked(place, folder, tmp_path):
    with pytest.raises(kdspec.RunError, match="KD501"):
        run(folder, tmp_path / "runs", Infinite, **{"stages.distil.distiller.general.soft_labels.loss": "infinite"})
    assert [r.exit.exit_code for r in tracked(place) if r.WhichOneof("record_type") == "exit"] == [1]


def test_without_track_nothing_is_logged(place, folder, tmp_path):
    run(folder, tmp_path / "runs", track=())
    assert not place.exists()
    assert not list(Path(tmp_path / "runs").rglob("wandb*"))
