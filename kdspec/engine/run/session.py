"""A run: the stages of a plan in order, in a locked folder, with events for observers and the log."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from kdspec.api.plan import Plan, StagePlan
from kdspec.api.task import BuiltTask
from kdspec.diagnostics.finding import Finding, FindingError, Mark
from kdspec.engine.evaluation.results import ResultRow, named, table
from kdspec.engine.export import model_folder
from kdspec.engine.forward.guarded_task import built
from kdspec.engine.forward.models import Models
from kdspec.engine.processes import torchrun
from kdspec.engine.processes.backend import Backend, Precision, SingleProcess
from kdspec.engine.processes.process_group import ProcessGroup
from kdspec.engine.processes.torchrun import Strategy
from kdspec.engine.run import resume_check
from kdspec.engine.run.build_stage import StageSetup
from kdspec.engine.run.checkpoint import Checkpoint
from kdspec.engine.run.event_log import EventLog, read
from kdspec.engine.run.lock import RunLock
from kdspec.engine.run.run_folder import RunFolder
from kdspec.engine.run.signals import StopSignal
from kdspec.engine.run.stage_checkpoints import saved
from kdspec.engine.run.stage_run import Interrupted, run_stage
from kdspec.engine.run.task_heads import conflicts
from kdspec.events import (
    Event,
    Note,
    RunFailed,
    RunFinished,
    RunStarted,
    StageFinished,
    StageSkipped,
    from_json,
    stage_of,
    step_of,
    to_json,
)
from kdspec.registry.plugins import Plugin
from kdspec.registry.registry import Registry


@dataclass(frozen=True)
class Result:
    """The result of a run."""

    folder: Path
    table: tuple[ResultRow, ...]
    """A row for each model of the run."""
    student: Path
    """The folder of the student."""
    stages: tuple[StageFinished, ...] = ()
    """The stages that this start has run."""
    already_finished: bool = False
    """Whether the run was already finished."""


@dataclass(frozen=True, kw_only=True)
class _Opening:
    """The state that an earlier start has left."""

    finished: dict[str, StageFinished]
    changed: tuple[str, ...]
    """Stages that resume with another spec than they began with."""
    over: bool
    """Whether the run is already finished."""


@dataclass
class Session:
    """Runs a plan.

    Args:
        plan: what to run.
        registry: the components and observers.
        output: the folder that contains the run folder.
        restart: start from the beginning, moving the files of an earlier run aside.
        resume: resume an earlier run although the spec has changed since.
        device: the device; by default the first GPU, or the CPU without one. Several processes have a GPU each.
        backend: how several processes train together: `ddp`, which `auto` is too, `fsdp`, or `accelerate`.
        accelerate_config: a file of `accelerate config` for that backend.
        shard_teachers: whether `fsdp` shards frozen models too.
        team: the process group, if it exists already; by default that of torchrun.
    """

    plan: Plan
    registry: Registry
    output: Path = Path("runs")
    restart: bool = False
    resume: bool = False
    device: str | None = None
    backend: Strategy = "auto"
    accelerate_config: Path | None = None
    shard_teachers: bool = False
    process_group: ProcessGroup | None = None
    kept: dict[str, Any] = field(default_factory=dict)
    """State of observers between events."""
    at_end: ExitStack = field(default_factory=ExitStack)
    """Closes resources of observers, however the run ends."""
    reports_failure: bool = True
    """After a failure: whether this process reports it. A failure of all processes is reported by rank 0."""
    _failed: list[Plugin] = field(default_factory=list)
    """Observers that have raised an exception; they are not called again."""
    _log: EventLog | None = None
    """Only the main process has one."""

    @property
    def folder(self) -> Path:
        """The folder of this run."""
        return self.output / self.plan.spec.name

    def run(self) -> Result:
        """Run the stages that are not finished, then compare the models.

        The plan is run as it is. `kdspec run` calls `kdspec.rehearsal.rehearse.rehearse` before, which reports errors of
        shapes without reading weights. Otherwise they are found when the models are built, before the first step.

        All processes call it. Rank 0 writes the folder, calls the observers, and has the table.

        Raises:
            Interrupted: a signal arrived; the same command resumes the run.
            FindingError: KD5xx.
        """
        began = time.perf_counter()
        with ExitStack() as cached_teachers:
            self._team = self.process_group or cached_teachers.enter_context(_gathered(self.device, self.backend))
            stop = cached_teachers.enter_context(StopSignal(patient=self._team.world > 1))
            try:
                return self._stages(stop, began, self._begin(cached_teachers))
            except (FindingError, RuntimeError) as error:
                cause = self._team.explained(error)
                self.reports_failure = not self._team.main_reports()
                if isinstance(cause, FindingError):
                    first = cause.findings[0]
                    # A full disk may fail here too, and must not hide the reason why the run has failed.
                    with suppress(FindingError):
                        self.emit(RunFailed(first.code, first.message))
                if cause is error:
                    raise
                raise cause from error
            finally:
                self._close()

    def _begin(self, cached_teachers: ExitStack) -> _Opening:
        """Lock the folder, and share its state with every process."""
        self._log = opening = None
        self._folder = RunFolder(self.folder)
        if self._team.is_main:
            self._folder.refuse_links()
            self._folder = RunFolder(self.folder, cached_teachers.enter_context(RunLock(self.folder)))
            if self.restart:
                self._folder.put_aside()
            # Before the log is opened: a refused start is not an event of the run.
            self._change = resume_check.hold(self.plan, self._folder, resume=self.resume)
            self._log = EventLog(self._folder.log)
            names = list(self.plan.spec.stages)
            finished = self._folder.finished(names)
            rows = self._folder.table() if len(finished) == len(names) else None
            opening = {
                "finished": {name: to_json(event) for name, event in finished.items()},
                "changed": self._change.stages,
                "over": rows is not None and "RunFinished" in self._logged(),
            }
        shared = self._team.share(opening)
        ends = {name: from_json(event) for name, event in shared["finished"].items()}
        finished = {name: event for name, event in ends.items() if isinstance(event, StageFinished)}
        return _Opening(finished=finished, changed=tuple(shared["changed"]), over=shared["over"])

    def emit(self, event: Event) -> None:
        """Log an event and pass it to the observers; one that raises is reported once and not called again.

        Only rank 0 does this.
        """
        if self._log is None:
            return
        self._keep(event)
        answers = list(self.registry.plugins.call("kdspec_observe", without=self._failed, event=event, session=self))
        for answer in answers:
            if answer.error is not None:
                self._failed.append(answer.plugin)
                self.emit(Note("warning", f"{_observer_error(answer.plugin, answer.error)}; it is not called again"))

    def _keep(self, event: Event) -> None:
        if self._log is not None:
            self._folder.check()
            self._log.append(event)

    def _close(self) -> None:
        try:
            self.at_end.close()
        except Exception as error:  # noqa: BLE001 - an observer's, which must not cost the run
            with suppress(FindingError):
                self._keep(Note("warning", f"an observer raised {type(error).__name__} at the end: {error}"))

    def _stages(self, stop: StopSignal, began: float, opening: _Opening) -> Result:
        folder, names, process_group = self._folder, list(self.plan.spec.stages), self._team
        finished = opening.finished
        open_ = [name for name in names if name not in finished]
        if opening.over:
            return Result(self.folder, folder.table() or (), folder.student, already_finished=True)
        found = self._start(finished, open_) if process_group.is_main else None
        tasks = {name: built(self.plan, name) for name in dict.fromkeys(t for s in self.plan.stages for t in s.tasks)}
        heads = {name: task.head for name, task in tasks.items()}
        if wrong := tuple(conflicts(self.plan, heads)):
            raise FindingError(*wrong)
        students = {stage.name: stage.student for stage in self.plan.stages}
        models = Models(self.plan, heads, {students[n]: self.folder / e.folder for n, e in finished.items()})
        done = []
        for stage in self.plan.stages:
            if stage.name in finished:
                self.emit(StageSkipped(stage.name, "already finished"))
                continue
            start = found if stage.name == open_[0] or not process_group.is_main else self._newest(stage.name)
            done.append(
                self._run_stage(
                    stage, models, {name: tasks[name] for name in stage.tasks}, stop, start, opening.changed
                )
            )
            if number := process_group.largest(stop.requested or 0):
                raise Interrupted(number)
        rows = table(self.plan, models, tasks, self._backend("fp32", trains=False))
        if process_group.is_main:
            folder.export(models.trained[self._final().student])
            # The event is logged before the file is written: a run without the file resumes here, one with it is over.
            self.emit(RunFinished(time.perf_counter() - began, named(rows)))
            folder.keep_table(rows)
        process_group.barrier()
        return Result(self.folder, rows, folder.student, tuple(done))

    def _start(self, finished: dict[str, StageFinished], open_: list[str]) -> Checkpoint | None:
        """The checkpoint that the first open stage resumes from; the log is brought in step with the disk."""
        notes = [Note("warning", _changed(self._change))] if self._change.stages else []
        if not notes:
            self._folder.write_plan(self.plan)
        found = self._newest(open_[0], notes) if open_ else None
        if (found is not None or finished) and (
            text := resume_check.other_versions(self._versions(), model_folder.versions())
        ):
            notes.append(Note("warning", text))
        self._mend_log(finished, open_[0] if open_ else None, found)
        names = tuple(self.plan.spec.stages)
        self.emit(
            RunStarted(self.plan.spec.name, names, dict(model_folder.versions()), self.plan.spec.seed, _step(found))
        )
        for note in notes:
            self.emit(note)
        return found

    def _final(self) -> StagePlan:
        """The stage whose student is that of the run: the last one with a teacher, or the last one."""
        taught = [stage for stage in self.plan.stages if stage.teachers]
        return (taught or list(self.plan.stages))[-1]

    def _run_stage(
        self,
        stage: StagePlan,
        models: Models,
        tasks: dict[str, BuiltTask],
        stop: StopSignal,
        found: Checkpoint | None,
        changed: tuple[str, ...],
    ) -> StageFinished:
        setup = StageSetup(
            plan=self.plan, stage=stage, registry=self.registry, models=models, tasks=tasks, folder=self._folder,
            backend=self._backend(stage.training.precision),
        )  # fmt: skip
        accept = partial(self._accept, stage.name) if stage.name in changed else None
        event = run_stage(setup, found, emit=self.emit, stop=stop, accept=accept)
        if self._team.is_main:
            self._folder.finish(event)
        if accept is not None:
            accept()
        self.emit(event)
        return event

    def _accept(self, stage: str) -> None:
        """Record that this stage now has the changed spec."""
        if self._team.is_main:
            resume_check.accept(self.plan, self._folder, stage)
            self._folder.write_plan(self.plan)

    def _backend(self, precision: Precision, *, trains: bool = True) -> Backend:
        process_group = self._team
        if process_group.world == 1:
            return SingleProcess(process_group.device, precision, process_group)
        from kdspec.engine.processes.ddp_fsdp import Replicated, Sharded  # a single process does not need them

        if self.backend == "accelerate" and trains:
            from kdspec.engine.processes.accelerate import Accelerated

            return Accelerated(process_group, precision, self.accelerate_config)
        if self.backend != "fsdp":
            return Replicated(process_group, precision)
        return Sharded(process_group, precision, divides_teachers=self.shard_teachers)

    def _newest(self, stage: str, notes: list[Note] | None = None) -> Checkpoint | None:
        """The checkpoint from which a stage resumes; damaged ones are noted, at once or in `notes`."""
        store = self._folder.checkpoints(stage)
        report = self.emit if notes is None else notes.append
        found = store.latest(lambda text: report(Note("warning", text)))
        if found is None and (damaged := store.damaged()):
            label = Mark(("stages", stage), "cannot be resumed", key=True)
            message = f"every checkpoint of stage `{stage}` is damaged"
            help_ = "start again with `--restart`; nothing has been deleted"
            notes_ = tuple(f"`{path}`" for path in damaged)
            raise FindingError(Finding("KD504", message, *label, notes=notes_, help=help_))
        return found

    def _versions(self) -> dict[str, str]:
        """The versions of the libraries at the last start."""
        records = read(self._folder.log) if self._folder.log.exists() else ()
        starts = [record.event for record in records if isinstance(record.event, RunStarted)]
        return starts[-1].versions if starts else {}

    def _logged(self) -> set[object]:
        """The contents of the log: the classes of its events, and the data of events about files."""
        found: set[object] = set()
        for record in read(self._folder.log) if self._folder.log.exists() else ():
            event = record.event
            found |= {
                type(event).__name__,
                (type(event).__name__, stage_of(event), step_of(event)),
            }
        return found

    def _mend_log(self, finished: dict[str, StageFinished], goes_on: str | None, found: Checkpoint | None) -> None:
        """Bring the log in step with the disk, wherever the last start was killed."""
        assert self._log is not None, "the main process has a log"
        if goes_on is not None:
            self._log.trim(goes_on, _step(found) or 0)
        logged = self._logged()
        for event in finished.values():
            if ("StageFinished", event.stage, event.step) not in logged:
                self._log.append(event)
        if goes_on is not None and found is not None and ("CheckpointSaved", goes_on, found.step) not in logged:
            self._log.append(saved(goes_on, found.step))


def _gathered(device: str | None, strategy: Strategy) -> ProcessGroup:
    place = torchrun.place(os.environ)
    torchrun.check(place, strategy)
    return ProcessGroup(place, torchrun.device(place, device))


def _step(checkpoint: Checkpoint | None) -> int | None:
    return None if checkpoint is None else checkpoint.step


def _changed(change: resume_check.SpecChange) -> str:
    stages = ", ".join(f"`{name}`" for name in change.stages)
    what = f": {'; '.join(change.differences)}" if change.differences else ""
    return f"resuming with a changed spec in {stages}{what}"


def _observer_error(plugin: Plugin, error: BaseException) -> str:
    return f"observer {plugin.distribution} ({plugin.origin}) raised {type(error).__name__}: {error}"
