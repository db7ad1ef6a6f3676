"""The processes of a sweep: their command, their threads, and why they have failed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
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


STARTS = """
import time
from pathlib import Path
from kdspec.sweep.child_run import ChildCommand
from kdspec.sweep.sweep_point import SweepPoint, SweepRun
child = ChildCommand(["--plugin", "slow.py"], "spec.yaml", (), Path()).start(SweepRun(SweepPoint({"t": "2"}), 3), 0, 0)
assert child.code() is None
time.sleep(100)
"""


def test_a_run_ends_when_the_sweep_is_killed(tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "slow.py").write_text(
        "import sys, time\nprint('begun', sys.stdin.read(), flush=True)\ntime.sleep(100)\n"
    )
    (tmp_path / "spec.yaml").write_text("kdspec: 1\n")
    sweep = subprocess.Popen([sys.executable, "-c", STARTS], cwd=tmp_path)
    printed = tmp_path / "output" / "t-2_seed-3.txt"

    def waits_for(text):
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if printed.is_file() and text in printed.read_text():
                return True
            time.sleep(0.05)
        return False

    assert waits_for("begun")
    assert "stopped" not in printed.read_text()
    sweep.kill()
    assert sweep.wait() == -signal.SIGKILL
    assert waits_for("stopped; the run has not begun")


def test_a_run_that_has_ended_holds_no_pipe(tmp_path):
    command = ChildCommand((), "none.yaml", (), tmp_path)
    child = command.start(SweepRun(SweepPoint({}), 1), 0, 0)
    assert child.code() is None
    child.process.wait()
    assert child.code() == 2
    assert child.alive.closed
