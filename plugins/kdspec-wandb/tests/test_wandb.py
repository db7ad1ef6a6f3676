"""Runs in the offline mode of W&B, read back from its files with the messages of the library."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import Record

from kdspec.events import Note
from kdspec.testing import SmallRun, logged_curves

BLOCK, HEADER = 32768, 7


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """What is run: nothing in it changes."""
    return SmallRun(tmp_path_factory.mktemp("tracked"), name="tracked")


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


def curve(found, name):
    """The values of a curve by the step of its stage."""
    values, axis = {}, f"{name.partition('/')[0]}/step"
    for record in found:
        items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        if name in items:
            values[items[axis]] = items[name]
    return values


def test_a_run_is_logged_whole(place, small, tmp_path):
    ran = small.run(tmp_path / "runs", track="wandb")
    found = tracked(place)
    (begun,) = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    assert (begun.display_name, begun.project) == ("tracked", "kdspec")
    config = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert config["stages"]["distil"]["training"]["steps"] == 6
    assert config["versions"]["kdspec"] == version("kdspec")
    for name, values in logged_curves(ran).items():
        assert curve(found, name) == pytest.approx(values)
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


def test_a_resumed_run_continues_its_curves(place, small, tmp_path):
    small.stopped(tmp_path / "runs", track="wandb")
    ran = small.run(tmp_path / "runs", track="wandb")
    found = tracked(place)
    begun = [record.run.run_id for record in found if record.WhichOneof("record_type") == "run"]
    assert (len(begun), len(set(begun))) == (2, 1)
    assert curve(found, "distil/loss") == pytest.approx(logged_curves(ran)["distil/loss"])


def test_nothing_of_it_keeps_the_run_from_resuming(place, small, tmp_path):
    """W&B makes links beside its files, and a run folder with links is refused."""
    small.run(tmp_path / "runs", track="wandb")
    assert small.run(tmp_path / "runs").metrics


def test_without_a_login_there_is_one_warning(place, small, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    ran = small.run(tmp_path / "runs", track="wandb")
    (note,) = [each.event.text for each in ran.events if isinstance(each.event, Note) and "wandb" in each.event.text]
    assert "not logged in to Weights & Biases: run `wandb login`, or set WANDB_MODE=offline" in note
    assert ran.metrics


def test_a_failed_run_is_marked(place, small, tmp_path):
    assert "KD501" in str(small.failed(tmp_path / "runs", track="wandb"))
    assert [r.exit.exit_code for r in tracked(place) if r.WhichOneof("record_type") == "exit"] == [1]


def test_without_track_nothing_is_logged(place, small, tmp_path):
    small.run(tmp_path / "runs")
    assert not place.exists()
    assert not list(Path(tmp_path / "runs").rglob("wandb*"))
