"""A run: the stages of a plan in order, in a locked folder, with events for observers and the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from kdspec.api.plan.plan import Plan
from kdspec.diagnostics.finding import Finding, FindingError, Mark
from kdspec.engine.evaluation.built_tasks import built_tasks
from kdspec.engine.evaluation.result_row import ResultRow
from kdspec.engine.evaluation.results import named, table
from kdspec.engine.evaluation.splits import without_labels
from kdspec.engine.export import model_folder
from kdspec.engine.export.model_card import write_card
from kdspec.engine.forward.error_context import OTHER_DEVICE, during
from kdspec.engine.forward.models import Models
from kdspec.engine.forward.trained_heads import with_downloads
from kdspec.engine.preflight.row_check import check_rows
from kdspec.engine.processes.choose_backend import BackendChoice, join
from kdspec.engine.processes.process_group import ProcessGroup, is_communication
from kdspec.engine.processes.torchrun import Strategy
from kdspec.engine.run import resume_check
from kdspec.engine.run.build_stage import StageSetup
from kdspec.engine.run.checkpoint import Checkpoint
from kdspec.engine.run.open_run import OpenedRun, RunState, open_run
from kdspec.engine.run.run_folder import RunFolder
from kdspec.engine.run.signals import STEP, Stop, StopSignal
from kdspec.engine.run.stage_run import Interrupted, run_stage
from kdspec.engine.run.task_heads import conflicts
from kdspec.events import (
    CheckpointSaved,
    Event,
    Note,
    RunFailed,
    RunFinished,
    RunStarted,
    StageFinished,
    StageSkipped,
    without_values,
)
from kdspec.hf import loaded_heads
from kdspec.registry.plugins import Plugin
from kdspec.registry.registry import Registry

_UNCHANGED = "this start has saved nothing new: the same command begins where the last one ended"


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


@dataclass
class Session:
    """Runs a plan.

    Args:
        plan: what to run.
        registry: the components and observers.
        output: the folder that contains the run folder.
        restart: start from the beginning, moving the files of an earlier run aside.
        resume: resume an earlier run although the spec, or what it reads, has changed since.
        device: the device; by default the first GPU, or the CPU without one. Several processes have a GPU each.
        backend: how several processes train together: `ddp`, which `auto` is too, `fsdp`, or `accelerate`.
        accelerate_config: a file of `accelerate config` for that backend.
        shard_teachers: whether `fsdp` shards frozen models too.
        track: names of the trackers that log the run, such as `wandb`; each is an observer that looks for its name here.
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
    track: Sequence[str] = ()
    process_group: ProcessGroup | None = None
    stop: StopSignal | None = None
    """What stops the run on a signal, if the program already has it; else the run has its own."""
    kept: dict[str, Any] = field(default_factory=dict)
    """State of observers between events."""
    when_finished: Callable[[], None] = lambda: None
    """Called on rank 0 when the run has finished, before `at_end`; it writes the report."""
    at_end: ExitStack = field(default_factory=ExitStack)
    """Closes resources of observers, however the run ends."""
    reports_failure: bool = True
    """After a failure: whether this process reports it. A failure of all processes is reported by rank 0."""
    _failed: list[Plugin] = field(default_factory=list)
    """Observers that have raised an exception; they are not called again."""
    _opened: OpenedRun | None = field(default=None, init=False)
    """The run folder in use; before it is opened there is no log for events."""
    _stop: StopSignal | None = field(default=None, init=False)
    """Where a second signal finds what the disk has of the run."""

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
        self._opened = None
        with ExitStack() as at_end:
            process_group = self.process_group or at_end.enter_context(join(self.device, self.backend))
            self._stop = stop = self.stop or at_end.enter_context(StopSignal())
            stop.patient = process_group.world > 1
            stop.saved = _UNCHANGED
            try:
                self._opened = open_run(
                    self.plan, self.registry, RunFolder(self.folder), process_group,
                    restart=self.restart, resume=self.resume, at_end=at_end,
                )  # fmt: skip
                return self._closed(self._run(self._opened, stop, began), process_group, stop)
            except Stop as asked:
                stop.arrived()
                raise Interrupted(asked.number) from None
            except (FindingError, RuntimeError) as error:
                # At the end of the time after a signal, another process may have ended a moment before. Soon after one, it
                # is torchrun that has sent it, because another process has failed: which one, is to be told.
                if stop.requested is not None and (stop.made(error) or (stop.late and is_communication(error))):
                    stop.arrived()
                    raise Interrupted(stop.requested) from error
                if stop.patient:
                    stop.arrived(reports=True)
                cause = process_group.explained(error)
                self.reports_failure = not process_group.main_reports()
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

    def emit(self, event: Event) -> None:
        """Log an event and pass it to the observers; one that raises is reported once and not called again.

        Only rank 0 does this.
        """
        if self._opened is None or self._opened.log is None:
            return
        event = without_values(event, self.plan.source.variables.hide_in)
        self._keep(event)
        answers = list(self.registry.plugins.call("kdspec_observe", without=self._failed, event=event, session=self))
        for answer in answers:
            if answer.error is not None:
                self._failed.append(answer.plugin)
                self.emit(Note("warning", f"{_observer_error(answer.plugin, answer.error)}; it is not called again"))

    def _keep(self, event: Event) -> None:
        assert self._opened is not None, "`emit` asks before"
        with nullcontext() if self._stop is None else self._stop.held(STEP):
            self._opened.keep(event)
            if self._stop is not None:
                self._stop.saved = _saved(event) or self._stop.saved

    def _tell(self, finding: Finding) -> None:
        self.emit(Note("info" if finding.severity == "note" else "warning", finding.line))

    def _close(self) -> None:
        try:
            self.at_end.close()
        except Exception as error:  # noqa: BLE001 - an observer's, which must not cost the run
            with suppress(FindingError):
                if self._opened is not None:
                    self._opened.keep(Note("warning", f"an observer raised {type(error).__name__} at the end: {error}"))

    def _run(self, opened: OpenedRun, stop: StopSignal, began: float) -> Result:
        state, folder, process_group = opened.state(), opened.folder, opened.process_group
        if state.over:
            return Result(self.folder, folder.table() or (), folder.student, already_finished=True)
        open_ = [name for name in self.plan.spec.stages if name not in state.finished]
        found = self._start(opened, state, open_) if process_group.is_main else None
        known = with_downloads(self.plan)
        tasks = built_tasks(known, self._tell, process_group)
        heads = {name: task.head for name, task in tasks.items()}
        if wrong := tuple(conflicts(self.plan, heads)):
            raise FindingError(*wrong)
        compared = tuple(loaded_heads.findings(known, heads))
        if wrong := tuple(finding for finding in compared if finding.severity == "error"):
            raise FindingError(*wrong)
        for finding in compared:
            self._tell(finding)
        opened.complete_identity(tasks)
        taught = {part.task for stage in self.plan.stages for part in stage.tasks.values() if part.teachers}
        for note in without_labels(tasks, taught):
            self.emit(note)
        students = {stage.name: stage.student for stage in self.plan.stages}
        trained = {students[name]: self.folder / event.folder for name, event in state.finished.items()}
        trained |= {
            name: folder.model(name)
            for stage in self.plan.stages
            if stage.name in state.finished
            for name in stage.needs.changing
        }
        models = Models(self.plan, heads, trained)
        check_rows(self.plan, models, tasks, open_)
        done = []
        for stage in self.plan.stages:
            if stage.name in state.finished:
                self.emit(StageSkipped(stage.name, "already finished"))
                continue
            start = found if stage.name == open_[0] or not process_group.is_main else self._newest(opened, stage.name)
            setup = StageSetup(
                plan=self.plan, stage=stage, registry=self.registry, models=models,
                tasks={name: tasks[name] for name in stage.tasks}, folder=folder,
                backend=self._choice.backend(process_group, stage.training.precision), reads=opened.reads(stage.name),
            )  # fmt: skip
            accept = partial(opened.accept, stage.name) if stage.name in state.changed else None
            done.append(self._run_stage(setup, start, stop, accept))
            stop.check()
            if number := process_group.largest(stop.requested or 0):
                raise Interrupted(number)
        with during((), "while the models are compared", OTHER_DEVICE, batches=OTHER_DEVICE):
            ends = {**state.finished, **{event.stage: event for event in done}}
            # The last stage of a student has made the weights that it has now.
            calibrated = {stage.student: ends[stage.name].calibration for stage in self.plan.stages}
            backend = self._choice.backend(process_group, "fp32", trains=False)
            rows = table(self.plan, models, tasks, backend, calibrated)
        if process_group.is_main:
            final = self.plan.final_stage
            card = partial(
                write_card, plan=self.plan, stage=final, metrics=ends[final.name].metrics, table=rows,
                reads=opened.reads(final.name), calibration=calibrated[final.student],
            )  # fmt: skip
            folder.export(models.trained[final.student], card)
            # The event is logged before the file is written: a run without the file resumes here, one with it is over.
            self.emit(RunFinished(time.perf_counter() - began, named(rows)))
            folder.keep_table(rows)
        process_group.barrier()
        return Result(self.folder, rows, folder.student, tuple(done))

    def _closed(self, result: Result, process_group: ProcessGroup, stop: StopSignal) -> Result:
        if process_group.is_main:
            stop.saved = "the run is finished, but for its report: the same command writes it"
            self.when_finished()
        return result

    def _start(self, opened: OpenedRun, state: RunState, open_: list[str]) -> Checkpoint | None:
        """The checkpoint that the first open stage resumes from; the log is brought in step with the disk."""
        notes = [Note("warning", _changed(opened.change))] if opened.change.stages else []
        if not notes:
            opened.folder.write_plan(self.plan)
        found = self._newest(opened, open_[0], notes) if open_ else None
        if (found is not None or state.finished) and (
            text := resume_check.other_versions(opened.versions(), model_folder.versions())
        ):
            notes.append(Note("warning", text))
        # Before the event of this start: events of steps that are done again must precede it.
        opened.mend_log(state.finished, open_[0] if open_ else None, found)
        names, resumed_at = tuple(self.plan.spec.stages), None if found is None else found.step
        versions = dict(model_folder.versions())
        seed = None if ("seed",) in self.plan.source.variables.places else self.plan.spec.seed
        self.emit(RunStarted(self.plan.spec.name, names, versions, seed, resumed_at))
        for note in (*notes, *(Note("warning", text) for text in opened.lacks)):
            self.emit(note)
        return found

    @property
    def _choice(self) -> BackendChoice:
        return BackendChoice(
            strategy=self.backend, accelerate_config=self.accelerate_config, shard_teachers=self.shard_teachers
        )

    def _run_stage(
        self, setup: StageSetup, found: Checkpoint | None, stop: StopSignal, accept: Callable[[], None] | None
    ) -> StageFinished:
        event = run_stage(setup, found, emit=self.emit, stop=stop, accept=accept)
        # The file before the event: the next start adds a missing event, but could not trust an event without a file.
        if setup.backend.is_main:
            setup.folder.finish(event)
        if accept is not None:
            accept()
        self.emit(event)
        return event

    def _newest(self, opened: OpenedRun, stage: str, notes: list[Note] | None = None) -> Checkpoint | None:
        """The checkpoint from which a stage resumes; damaged ones are noted, at once or in `notes`."""
        store = opened.folder.checkpoints(stage)
        report = self.emit if notes is None else notes.append
        found = store.latest(lambda text: report(Note("warning", text)))
        if found is None and (damaged := store.damaged()):
            label = Mark(("stages", stage), "cannot be resumed", key=True)
            message = f"every checkpoint of stage `{stage}` is damaged"
            help_ = "start again with `--restart`; nothing has been deleted"
            notes_ = tuple(f"`{path}`" for path in damaged)
            raise FindingError(Finding("KD504", message, *label, notes=notes_, help=help_))
        return found


def _saved(event: Event) -> str | None:
    """What is on the disk after an event, in words; None where that has not changed."""
    resumes = "the same command resumes from there"
    match event:
        case CheckpointSaved():
            return f"the last checkpoint is that of step {event.step} of stage `{event.stage}`: {resumes}"
        case StageFinished():
            return f"stage `{event.stage}` is done and saved: {resumes}"
        case RunStarted(resumed_at=None):
            return "nothing of the stage is saved yet: the same command starts it from its beginning"
        case RunFinished():
            return "all models are trained and compared: the same command writes what is missing"
        case RunStarted():
            return f"the last checkpoint is that of step {event.resumed_at}: {resumes}"
        case _:
            return None


def _changed(change: resume_check.SpecChange) -> str:
    stages = ", ".join(f"`{name}`" for name in change.stages)
    what = f": {'; '.join(change.differences)}" if change.differences else ""
    return f"resuming with changes in {stages}{what}"


def _observer_error(plugin: Plugin, error: BaseException) -> str:
    return f"observer {plugin.distribution} ({plugin.origin}) raised {type(error).__name__}: {error}"
