"""Runs in the local database of Trackio, read back with its own reader."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from kdspec.events import Note
from kdspec.testing import SmallRun, logged_curves


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """What is run: nothing in it changes."""
    return SmallRun(tmp_path_factory.mktemp("tracked"), name="tracked")


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


def test_a_run_is_logged_whole(store, small, tmp_path):
    ran = small.run(tmp_path / "runs", track="trackio")
    name = tracked(store)
    assert name.startswith("tracked-")
    config = store.get_run_config("kdspec", name)
    assert config["stages"]["distil"]["training"]["steps"] == 6
    assert config["versions"]["kdspec"] == version("kdspec")
    for each, values in logged_curves(ran).items():
        assert curve(store, each) == pytest.approx(values)
    assert list(curve(store, "words/student/accuracy").values()) == [ran.metrics["accuracy"]]
    (table,) = [row["table"] for row in store.get_logs("kdspec", name) if "table" in row]
    assert "trackio.table" in str(table)
    (artifact,) = store.get_run_artifacts("kdspec", name, None)["output"]
    assert artifact["type"] == "report"


def test_a_resumed_run_continues_its_curves(store, small, tmp_path):
    small.stopped(tmp_path / "runs", track="trackio")
    ran = small.run(tmp_path / "runs", track="trackio")
    assert curve(store, "distil/loss") == pytest.approx(logged_curves(ran)["distil/loss"])


def test_a_failing_store_costs_one_warning(store, small, tmp_path, monkeypatch):
    monkeypatch.setattr("trackio.init", lambda **_: 1 / 0)
    ran = small.run(tmp_path / "runs", track="trackio")
    (note,) = [each.event.text for each in ran.events if isinstance(each.event, Note) and "trackio" in each.event.text]
    assert "ZeroDivisionError" in note
    assert ran.metrics


def test_without_track_nothing_is_logged(store, small, tmp_path):
    small.run(tmp_path / "runs")
    assert not (tmp_path / "trackio").exists()
