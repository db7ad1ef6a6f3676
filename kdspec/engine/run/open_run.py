"""Opens a run folder: locks it, compares its spec with the plan, and brings its log in step with the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from kdspec.api.plan.plan import Plan
from kdspec.api.working.task import BuiltTask
from kdspec.engine.identity.reading import ReadContent
from kdspec.engine.processes.process_group import ProcessGroup
from kdspec.engine.run.checkpoint import Checkpoint
from kdspec.engine.run.durable_files import can_sync
from kdspec.engine.run.event_log import EventLog
from kdspec.engine.run.lock import RunLock
from kdspec.engine.run.resume_check import ResumeCheck, SpecChange
from kdspec.engine.run.run_folder import RunFolder
from kdspec.engine.run.stage_checkpoints import read_state, saved
from kdspec.events import Event, StageFinished, from_json, to_json
from kdspec.registry.registry import Registry


@dataclass(frozen=True, kw_only=True)
class RunState:
    """The state that earlier starts have left; the same on every rank."""

    finished: dict[str, StageFinished]
    changed: tuple[str, ...]
    """Stages that resume with another spec than they began with."""
    over: bool
    """Whether the run is already finished."""


@dataclass(frozen=True, kw_only=True)
class OpenedRun:
    """A run folder in use. Rank 0 has its lock and its log, and writes; the other ranks only read."""

    plan: Plan
    process_group: ProcessGroup
    folder: RunFolder
    log: EventLog | None
    change: SpecChange
    """Empty on other ranks than 0."""
    check: ResumeCheck | None = None
    """What the stages began with and are made from now; None on other ranks than 0."""
    lacks: tuple[str, ...] = ()
    """What the file system of the folder does not have, and what that means for the run."""

    def keep(self, event: Event) -> None:
        """Log an event, on rank 0.

        Raises:
            FindingError: KD508 if the folder is gone or the disk is full.
        """
        if self.log is not None:
            self.folder.check()
            self.log.append(event)

    def state(self) -> RunState:
        """What rank 0 finds in the folder; every rank must call it."""
        found = None
        if self.process_group.is_main:
            names = list(self.plan.spec.stages)
            finished = self.folder.finished(names)
            rows = self.folder.table() if len(finished) == len(names) else None
            found = {
                "finished": {name: to_json(event) for name, event in finished.items()},
                "changed": self.change.stages,
                # Both: a run that was killed between the event and the table writes the table again.
                "over": rows is not None and self._written.summary.over,
            }
        shared = self.process_group.share(found)
        ends = {name: from_json(event) for name, event in shared["finished"].items()}
        finished = {name: event for name, event in ends.items() if isinstance(event, StageFinished)}
        return RunState(finished=finished, changed=tuple(shared["changed"]), over=shared["over"])

    def versions(self) -> dict[str, str]:
        """The versions of the libraries at the last start."""
        return self._written.summary.versions

    def mend_log(self, finished: dict[str, StageFinished], resumes: str | None, found: Checkpoint | None) -> None:
        """Bring the log in step with the disk, wherever the last start was killed.

        Files are written before their events, so that events may be missing; those of steps after the checkpoint are removed.

        Args:
            finished: the stages that are finished.
            resumes: the first stage that is not.
            found: the checkpoint from which it resumes.
        """
        log = self._written
        if resumes is not None:
            step = 0 if found is None else found.step
            log.trim(resumes, step, evaluates=found is not None and read_state(found).progress.evaluates)
        for event in finished.values():
            if not log.summary.has_finished(event.stage, event.step):
                log.append(event)
        if resumes is not None and found is not None and not log.summary.has_saved(resumes, found.step):
            log.append(saved(resumes, found.step))

    def accept(self, stage: str) -> None:
        """Record that a stage now has the changed spec."""
        if self.check is not None:
            self.check.accept(stage)
            self.folder.write_plan(self.plan)

    def complete_identity(self, tasks: Mapping[str, BuiltTask]) -> None:
        """Record what is known of the run's identity now that the rows have been read."""
        if self.check is not None:
            self.check.complete(tasks)

    def reads(self, stage: str) -> tuple[ReadContent, ...]:
        """What a stage reads, by digest; empty on other ranks than 0."""
        return () if self.check is None else self.check.now.stages[stage].reads

    @property
    def _written(self) -> EventLog:
        assert self.log is not None, "rank 0 has a log"
        return self.log


def open_run(
    plan: Plan,
    registry: Registry,
    folder: RunFolder,
    process_group: ProcessGroup,
    *,
    restart: bool,
    resume: bool,
    at_end: ExitStack,
) -> OpenedRun:
    """Open the run folder of a plan.

    Args:
        plan: the plan.
        registry: its components.
        folder: the folder, without a lock.
        process_group: the processes of the run.
        restart: move the files of an earlier run aside.
        resume: resume an earlier run although the spec, or what it reads, has changed since.
        at_end: releases the lock.

    Raises:
        FindingError: KD5xx if the folder is in use, cannot be written, or began with another spec or other data.
    """
    if not process_group.is_main:
        return OpenedRun(plan=plan, process_group=process_group, folder=folder, log=None, change=SpecChange((), ()))
    folder.refuse_links()
    lock = at_end.enter_context(RunLock(folder.path))
    folder = RunFolder(folder.path, lock)
    if restart:
        folder.put_aside()
    # Before the log is opened: a refused start is not an event of the run.
    check = ResumeCheck(plan, folder, registry)
    change = check.hold(resume=resume)
    lacks = tuple(_lacks(folder, lock))
    log = EventLog(folder.log)
    return OpenedRun(
        plan=plan, process_group=process_group, folder=folder, log=log, change=change, check=check, lacks=lacks
    )


def _lacks(folder: RunFolder, lock: RunLock) -> Iterator[str]:
    if not lock.exclusive:
        yield (
            f"the file system of `{folder.path}` has no locks: a second run in this folder, from another machine, would not "
            "be noticed and would damage both"
        )
    if not can_sync(folder.path):
        yield (
            f"the file system of `{folder.path}` cannot sync folders: after a loss of power the last checkpoint may be "
            "missing, and the run resumes from an earlier one"
        )
