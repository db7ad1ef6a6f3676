"""The processes of a sweep: their command, their threads, and why they have failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdspec.sweep.child_run import THREADS, ChildCommand, divided_threads, environment, last_words, processors
from kdspec.sweep.sweep_point import SweepPoint, SweepRun


def test_the_command_is_that_of_a_run_with_the_values_of_its_point():
    command = ChildCommand(["--plugin", "p.py"], "spec.yaml", ["a=1"], Path("runs/s-sweep"))
    run = SweepRun(SweepPoint({"t": "2"}), 3)
    assert command.words(run, "cpu") == [
        "--plugin", "p.py", "run", "spec.yaml", "--set", "a=1", "--set", "t=2", "--set", "name=t-2_seed-3", "--set", "seed=3",
        "--output", "runs/s-sweep", "--device", "cpu",
    ]  # fmt: skip


@pytest.mark.parametrize(("jobs", "cores", "threads"), [(1, 8, 0), (2, 8, 4), (3, 8, 2), (16, 8, 1)])
def test_jobs_share_the_processors(jobs, cores, threads):
    assert divided_threads(jobs, cores) == threads
    assert processors() >= 1


def test_the_threads_of_the_user_stay():
    assert environment({}, 2) == {THREADS: "2"}
    assert environment({THREADS: "5"}, 2) == {THREADS: "5"}
    assert environment({}, 0) == {}


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        ("loading\nerror[KD501]: loss is nan\n  --> spec\n", "error[KD501]: loss is nan"),
        ("one\n\nTraceback: last\n\n", "Traceback: last"),
        ("", "nothing was printed"),
    ],
)
def test_a_run_has_failed_for_its_first_error_or_its_last_line(printed, reason, tmp_path):
    (tmp_path / "out").write_text(printed)
    assert last_words(tmp_path / "out") == reason
    assert last_words(tmp_path / "none") == "nothing was printed"
