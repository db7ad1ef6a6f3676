"""A run of a sweep as a process of its own: `kdspec run`, with its output in a file. It ends with the sweep's process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kdspec.sweep.sweep_point import SweepRun

CHILD = "kdspec.cli.child_process"
"""The module that a run is started with: `kdspec`, until its standard input ends."""
THREADS = "OMP_NUM_THREADS"
_LONGEST = 2**16


@dataclass(frozen=True)
class ChildRun:
    """A process that runs, or has run, one run of a sweep."""

    run: SweepRun
    process: subprocess.Popen[bytes]
    output: Path
    """What it prints."""
    slot: int
    """Which of the jobs it is."""
    alive: IO[bytes] | None = None
    """A pipe that is open as long as this process lives; its end ends the run."""

    def code(self) -> int | None:
        """The exit status of a process that has ended."""
        code = self.process.poll()
        if code is not None:
            self._close()
        return code

    def stop(self) -> None:
        """Ask the run to save and end, as Ctrl-C does."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End the process at once; what the run has saved stays as it is."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._close()

    def _close(self) -> None:
        if self.alive is not None:
            self.alive.close()


@dataclass(frozen=True)
class ChildCommand:
    """How the runs of a sweep are started.

    Args:
        before: the arguments before `run`: plugins and trust.
        spec: the spec.
        sets: the arguments of `--set` of all runs.
        folder: the folder of the sweep.
        devices: the devices, which the jobs share; none: the default of `kdspec run`.
    """

    before: Sequence[str]
    spec: str
    sets: Sequence[str]
    folder: Path
    devices: Sequence[str] = ()

    def words(self, run: SweepRun, device: str | None = None) -> list[str]:
        """The command of a run, without the program."""
        words = [*self.before, "run", self.spec]
        for given in (*self.sets, *run.sets):
            words += ["--set", given]
        words += ["--output", str(self.folder)]
        return words + (["--device", device] if device else [])

    def start(self, run: SweepRun, slot: int, threads: int) -> ChildRun:
        """Start a run.

        Args:
            run: the run.
            slot: the number of the job.
            threads: its threads; 0: not set.
        """
        output = self.folder / "output" / f"{run.name}.txt"
        output.parent.mkdir(exist_ok=True)
        device = self.devices[slot % len(self.devices)] if self.devices else None
        with output.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603 - kdspec itself
                [sys.executable, "-m", CHILD, *self.words(run, device)],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment(os.environ, threads),
                # A group of its own: Ctrl-C reaches the sweep, which passes it on once, as a second signal would end the run.
                process_group=0,
            )
        return ChildRun(run, process, output, slot, process.stdin)


def environment(given: Mapping[str, str], threads: int) -> dict[str, str]:
    """The environment of a run with so many threads, unless the user's has their number."""
    return {**given, **({THREADS: str(threads)} if threads and THREADS not in given else {})}


def processors() -> int:
    """The processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has none
        return os.cpu_count() or 1


def divided_threads(jobs: int, processors_: int) -> int:
    """The threads of each of several jobs; 0, which sets nothing, for one job."""
    return max(1, processors_ // jobs) if jobs > 1 else 0


def last_words(output: Path) -> str:
    """Why a run has failed, from what it has printed: its first error, or its last line."""
    try:
        with output.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _LONGEST))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return "nothing was printed"
    lines = [line.strip() for line in lines if line.strip()]
    return next((line for line in lines if line.startswith("error")), lines[-1] if lines else "nothing was printed")
