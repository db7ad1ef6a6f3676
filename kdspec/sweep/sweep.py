"""Runs the runs of a sweep side by side: starts them, follows them, stops bad ones, and leaves the others resumable."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.run_folder import RunFolder
from kdspec.report.comparison.compared_run import ComparedRun, read_run
from kdspec.sweep.child_run import ChildCommand, ChildRun, last_words
from kdspec.sweep.log_follower import LogFollower
from kdspec.sweep.median_rule import MedianRule
from kdspec.sweep.search import PointSearch
from kdspec.sweep.sweep_point import SweepPoint, SweepRun
from kdspec.sweep.sweep_record import SweepRecord

_POLL = 0.2
"""Seconds between two looks at the processes."""
_PATIENCE = 17.0
"""Seconds that runs have to save and end after a signal; one that is killed then resumes from its last checkpoint."""


class Stopper(Protocol):
    """What knows of a signal."""

    requested: int | None


@dataclass
class Sweep:
    """The runs of a sweep.

    Args:
        folder: its folder, locked.
        record: what it consists of; written whenever that changes.
        points: the points that are known.
        stage: the stage whose evaluations tell how good a run is.
        command: how a run is started.
        jobs: the number of runs at a time.
        threads: the threads of a run that begins; 0: not set.
        stop: knows of a signal.
        tell: prints a line.
        check: why a run cannot be started: its values are not valid, or the spec has changed; None if it can.
        search: samples further points; None for a grid.
        rule: stops bad runs; None: none.
        detailed: whether the evaluations of the runs are printed, and where their output is.
    """

    folder: Path
    record: SweepRecord
    points: list[SweepPoint]
    stage: str
    command: ChildCommand
    jobs: int
    threads: int
    stop: Stopper
    tell: Callable[[str], None]
    check: Callable[[SweepRun], str | None]
    search: PointSearch | None = None
    rule: MedianRule | None = None
    detailed: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    """The runs that have failed, with the reason."""
    _children: list[ChildRun] = field(default_factory=list)
    _followers: dict[str, LogFollower] = field(default_factory=dict)
    _bad: dict[str, str] = field(default_factory=dict)
    """The runs that were asked to stop, with the reason."""
    _done: set[str] = field(default_factory=set)

    def runs(self) -> list[SweepRun]:
        """The runs of the points that are known: all points with the first seed, then with the next one."""
        return [SweepRun(point, seed) for seed in self.record.seeds for point in self.points]

    def finished(self, run: SweepRun) -> bool:
        """Whether a run is finished."""
        return RunFolder(self.folder / run.name).table() is not None

    def run(self) -> None:
        """Run what is not finished, until all has ended or a signal arrives."""
        self._begin()
        try:
            while self.stop.requested is None:
                while len(self._children) < self.jobs and (run := self._next()) is not None:
                    self._start(run)
                if not self._children:
                    return
                time.sleep(_POLL)
                self._look()
            self._end_all()
        finally:
            for child in self._children:
                child.kill()

    def _begin(self) -> None:
        """Take up what an earlier start has left."""
        kept = {run for run in self.record.stopped if self.rule is not None}
        if kept != self.record.stopped.keys():
            self._keep(replace(self.record, stopped={}))
        for run in self.runs():
            if self.finished(run):
                self._done.add(run.name)
                if self.rule is not None:
                    self._hear(run.name)
                    self.rule.end(run.name, self._score(run))
        for point in self.points:
            self._tell_search(point)

    def _next(self) -> SweepRun | None:
        """The next run to start; a point is sampled if all runs of the known ones have begun."""
        while True:
            begun = {*self._done, *self.failed, *self.record.stopped, *(child.run.name for child in self._children)}
            for run in self.runs():
                if run.name in begun or self._is_bad(run.point):
                    continue
                if (reason := self.check(run)) is None:
                    return run
                self._fail(run, reason)
            if self.search is None or not self._to_sample():
                return None
            drawn = self.search.draw()
            self._keep(replace(self.record, sampled=[*self.record.sampled, drawn]))
            point = SweepPoint(drawn.values)
            if point not in self.points:
                self.points.append(point)
            self._tell_search(point)

    def _is_bad(self, point: SweepPoint) -> bool:
        """Whether a run of a point was stopped early: then its other seeds are not worth their time."""
        names = {SweepRun(point, seed).name for seed in self.record.seeds}
        return bool(names & (self.record.stopped.keys() | self._bad.keys()))

    def _start(self, run: SweepRun) -> None:
        free = next(slot for slot in range(self.jobs) if slot not in {child.slot for child in self._children})
        threads = self.record.threads.get(run.name)
        if threads is None:
            threads = self.threads
            self._keep(replace(self.record, threads={**self.record.threads, run.name: threads}))
        self._children.append(self.command.start(run, free, threads))
        total = len(self.runs()) + self._to_sample() * len(self.record.seeds)
        self.tell(f"{run.name}: started, {len(self._done)} of {total} runs are finished")
        if self.detailed:
            self.tell(f"{run.name}: its output is in {self._children[-1].output}")

    def _to_sample(self) -> int:
        return max(0, self.record.sample - len(self.record.sampled))

    def _look(self) -> None:
        """Look at each process: whether it has ended, and how good its run is."""
        for child in list(self._children):
            name, code = child.run.name, child.code()
            heard = self.detailed or self.rule is not None
            if heard and (code is None or code == 0) and self._hear(name) and code is None:
                self._stop_early(child)
            if code is not None:
                self._children.remove(child)
                self._ended(child, code)

    def _hear(self, name: str) -> bool:
        """Print what a run's log has, or pass it on to the median rule; whether the run is bad."""
        follower = self._followers.setdefault(name, LogFollower(self.folder / name / "events.jsonl"))
        bad = False
        for event in follower.evaluations(self.stage):
            value = event.metrics.get(event.selected_by, math.nan)
            if self.detailed and name not in self._done:
                self.tell(f"{name}: step {event.step}: validation {event.selected_by} {value:.4f}")
            if self.rule is not None:
                bad = self.rule.hear(name, event.step, -value if event.lower_is_better else value)
        return bad

    def _stop_early(self, child: ChildRun) -> None:
        if child.run.name in self._bad:
            return
        self._bad[child.run.name] = "worse than the median of the finished runs at the same step"
        child.stop()

    def _ended(self, child: ChildRun, code: int) -> None:
        run, name = child.run, child.run.name
        if code == 0 and self.finished(run):
            self._bad.pop(name, None)
            self._done.add(name)
            found = self._read(run)
            value = (
                "" if found is None or found.value is None else f": validation {found.selected_by} {found.value:.4f}"
            )
            self.tell(f"{name}: finished{value}")
            self._judge(run)
        elif name in self._bad:
            reason = self._bad.pop(name)
            self._keep(replace(self.record, stopped={**self.record.stopped, name: reason}))
            self.tell(f"{name}: stopped early, {reason}")
            self._judge(run)
        else:
            self._fail(run, last_words(child.output))

    def _fail(self, run: SweepRun, reason: str) -> None:
        self.failed[run.name] = reason
        self.tell(f"{run.name}: failed: {reason}")
        self._judge(run)

    def _judge(self, run: SweepRun) -> None:
        """Tell the rule and the search that a run has ended."""
        if self.rule is not None:
            self.rule.end(run.name, self._score(run) if run.name in self._done else None)
        self._tell_search(run.point)

    def _tell_search(self, point: SweepPoint) -> None:
        """Tell the search how good a point is, once all its runs have ended."""
        if self.search is None:
            return
        runs = [SweepRun(point, seed) for seed in self.record.seeds]
        names = {run.name for run in runs}
        stopped = bool(names & self.record.stopped.keys())
        if not stopped and not names <= (self._done | self.failed.keys()):
            return
        values = [self._score(run) for run in runs if run.name in self._done]
        known = [value for value in values if value is not None and math.isfinite(value)]
        whole = len(known) == len(runs)
        for sampled in self.record.sampled:
            if sampled.values == point.values:
                self.search.tell(sampled.trial, math.fsum(known) / len(known) if whole else None, stopped=stopped)

    def _read(self, run: SweepRun) -> ComparedRun | None:
        try:
            return read_run(self.folder / run.name)
        except (FindingError, DiagnosticError):  # a damaged folder is named by the comparison at the end
            return None

    def _score(self, run: SweepRun) -> float | None:
        """The validation metric of a finished run, such that higher is better; None without one."""
        found = self._read(run)
        if found is None or found.value is None:
            return None
        return -found.value if found.lower_is_better else found.value

    def _end_all(self) -> None:
        """Ask all runs to save and end; those that take too long are killed, and resume from their last checkpoint."""
        for child in self._children:
            child.stop()
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until and any(child.code() is None for child in self._children):
            time.sleep(_POLL / 2)

    def _keep(self, record: SweepRecord) -> None:
        self.record = record
        record.write(self.folder)
