"""`kdspec runs`: the list, its order, and what is no folder of runs."""

from __future__ import annotations

import json
import os
import time

import pytest

from kdspec.engine.run.lock import RunLock, holder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def aged(folder, days):
    stamp = time.time() - days * 86_400
    os.utime(folder / "events.jsonl", (stamp, stamp))
    return folder


def states(outcome):
    return {run["name"]: run["state"] for run in json.loads(outcome.out)}


def test_each_run_has_its_state_metric_size_and_age(kdspec, folder_of_run, here):
    aged(folder_of_run("old", accuracy=0.5), 40)
    (folder_of_run("new", accuracy=0.81) / "checkpoints" / "distil").mkdir(parents=True)
    (here / "runs/new/checkpoints/distil/state").write_bytes(b"x" * 2**21)
    aged(folder_of_run("half", ends="unfinished", steps=2), 1)
    aged(folder_of_run("bad", ends="failed"), 2)
    outcome = kdspec("runs")
    assert outcome.code == 0
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    assert lines[1].startswith("new finished accuracy 0.81 2.0")
    assert [line.split()[0] for line in lines[1:5]] == ["new", "half", "bad", "old"]
    assert lines[2].endswith("1 d distil 2/4")
    assert lines[3].endswith("2 d KD501 the loss is not finite")
    assert lines[5].startswith("2 finished, 1 stopped, 1 failed; together 2.0")
    assert outcome.err == "2.00 MiB are checkpoints of finished runs; `kdspec clean` removes them\n"


def test_json_has_bytes_and_the_metric(kdspec, folder_of_run, here):
    aged(folder_of_run("a", accuracy=0.9), 3)
    (found,) = json.loads(kdspec("runs", "--json").out)
    assert found["age_seconds"] // 86_400 == 3
    assert (found["metric"], found["value"], found["lower_is_better"]) == ("accuracy", 0.9, False)
    files = [path for path in (here / "runs/a").rglob("*") if path.is_file()]
    assert found["bytes"] == sum(path.stat().st_size for path in files)


def test_runs_in_a_folder_of_runs_are_listed_and_earlier_ones_are_not(kdspec, folder_of_run, here):
    folder_of_run("a")
    folder_of_run("first", within="runs/a/earlier-1")
    folder_of_run("t2", within="runs/sweep")
    (here / "runs/other").mkdir()
    assert states(kdspec("runs", "--json")) == {"a": "finished", "sweep/t2": "finished"}
    assert states(kdspec("runs", "runs/sweep", "--json")) == {"t2": "finished"}


def test_a_run_that_cannot_be_read_hides_no_other(kdspec, folder_of_run, here):
    folder_of_run("a")
    (folder_of_run("b") / "table.json").write_text("[")
    (folder_of_run("c") / "spec.yaml").write_text("a: [")
    assert states(kdspec("runs", "--json")) == {"a": "finished", "b": "damaged", "c": "damaged"}
    assert kdspec("runs").code == 0


def test_a_run_of_another_process_is_running_until_it_ends(kdspec, folder_of_run, here):
    folder = folder_of_run("a", ends="unfinished")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        with RunLock(folder):
            os.write(writer, b"x")
            time.sleep(60)
        os._exit(0)
    os.read(reader, 1)
    assert states(kdspec("runs", "--json")) == {"a": "running"}
    assert holder(folder).startswith(f"pid {child} on ")
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert (folder / ".lock").read_text().startswith(f"pid {child} on ")
    assert states(kdspec("runs", "--json")) == {"a": "stopped"}


def test_a_lock_of_this_process_is_seen_and_kept(folder_of_run):
    folder = folder_of_run("a", ends="unfinished")
    with RunLock(folder):
        assert holder(folder).startswith(f"pid {os.getpid()} on ")
        assert holder(folder)
    assert holder(folder) == ""


def test_without_runs_it_says_how_to_make_one(kdspec, here):
    outcome = kdspec("runs")
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == "no runs in `runs`; `kdspec run spec.yaml` makes one\n"
    assert json.loads(kdspec("runs", "--json").out) == []


def test_a_folder_that_is_not_there_and_one_of_a_run_are_refused(kdspec, folder_of_run, here):
    folder_of_run("a")
    for folder, message in (("nowhere", "there is no folder `nowhere`"), ("runs/a", "is the folder of one run")):
        outcome = kdspec("runs", folder)
        assert (outcome.code, outcome.out) == (2, "")
        assert message in outcome.err
