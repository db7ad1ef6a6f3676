"""A run: the stages of a plan in order, in a folder that one process holds, with an event for whatever happens."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kdspec.built import BuiltTask
from kdspec.context import BuildContext
from kdspec.diagnostics import Diagnostic, DiagnosticError
from kdspec.engine import export, identity
from kdspec.engine.backend import Backend, SingleProcess
from kdspec.engine.blame import blaming
from kdspec.engine.checkpoint import Checkpoint
from kdspec.engine.event_log import EventLog, read
from kdspec.engine.guarded import guarded
from kdspec.engine.heads import conflicts
from kdspec.engine.lock import RunLock
from kdspec.engine.models import Models
from kdspec.engine.run_folder import RunFolder
from kdspec.engine.signals import StopSignal
from kdspec.engine.stage import Interrupted, StageRun, saved
from kdspec.engine.table import Row, named, table
from kdspec.events import Event, Note, RunFailed, RunFinished, RunStarted, StageFinished, StageSkipped
from kdspec.plan import Plan, PlannedStage
from kdspec.plugins import Plugin
from kdspec.registry import Registry


@dataclass(frozen=True)
class Result:
    """What a run has come to."""

    folder: Path
    table: tuple[Row, ...]
    """A row for each model that took part."""
    student: Path
    """The folder of the student."""
    stages: tuple[StageFinished, ...] = ()
    """Those that were run now."""
    already_finished: bool = False
    """Whether there was nothing left to do."""


@dataclass
class Session:
    """A plan on its way to a result.

    Args:
        plan: what to run.
        registry: the components and observers.
        output: the folder in which the run's own folder lies.
        restart: begin anew, putting aside what an earlier run with this name has left.
        resume: go on with what an earlier run has left though the spec has changed since.
        device: where to compute; the first GPU, or the CPU where there is none.
    """

    plan: Plan
    registry: Registry
    output: Path = Path("runs")
    restart: bool = False
    resume: bool = False
    device: str | None = None
    kept: dict[str, Any] = field(default_factory=dict)
    """Where observers keep what they need from one event to the next."""
    at_end: ExitStack = field(default_factory=ExitStack)
    """Closes what observers have opened, however the run ends."""
    _failed: list[Plugin] = field(default_factory=list)
    """Observers that raised, and are not called again."""

    @property
    def folder(self) -> Path:
        """The folder of this run."""
        return self.output / self.plan.spec.name

    def run(self) -> Result:
        """Run the stages that are not finished, then compare the models.

        The plan is taken as it is; `kdspec.rehearsal.rehearse.rehearse`, which `kdspec run` calls before, tells of
        mistakes that only shapes show without reading a weight. Without it they are found when the models are built,
        and before the first step all the same.

        Raises:
            Interrupted: a signal came; the same command continues.
            DiagnosticError: KD5xx.
        """
        began = time.perf_counter()
        RunFolder(self.folder).refuse_links()
        with RunLock(self.folder) as lock, StopSignal() as stop:
            self._folder = RunFolder(self.folder, lock)
            if self.restart:
                self._folder.put_aside()
            # Before the log is opened: a start that is refused is nothing that has happened in the run.
            self._change = identity.hold(self.plan, self._folder, resume=self.resume)
            self._log = EventLog(self._folder.log)
            try:
                return self._stages(stop, began)
            except DiagnosticError as error:
                first = error.diagnostics[0]
                # The disk that has refused may refuse this too, which must not hide why the run has failed.
                with suppress(DiagnosticError):
                    self.emit(RunFailed(first.code, first.message))
                raise
            finally:
                self._close()

    def emit(self, event: Event) -> None:
        """Record an event and show it to the observers; one that raises is reported once and left alone."""
        self._keep(event)
        answers = list(self.registry.plugins.call("kdspec_observe", without=self._failed, event=event, session=self))
        for answer in answers:
            if answer.error is not None:
                self._failed.append(answer.plugin)
                self.emit(Note("warning", f"{_told(answer.plugin, answer.error)}; it is not called again"))

    def _keep(self, event: Event) -> None:
        self._folder.check()
        self._log.append(event)

    def _close(self) -> None:
        try:
            self.at_end.close()
        except Exception as error:  # noqa: BLE001 - an observer's, which must not cost the run
            with suppress(DiagnosticError):
                self._keep(Note("warning", f"an observer raised {type(error).__name__} at the end: {error}"))

    def _stages(self, stop: StopSignal, began: float) -> Result:
        folder, names = self._folder, list(self.plan.spec.stages)
        finished = folder.finished(names)
        open_ = [name for name in names if name not in finished]
        if not open_ and (rows := folder.table()) is not None and "RunFinished" in self._logged():
            return Result(self.folder, rows, folder.student, already_finished=True)
        notes = [Note("warning", _changed(self._change))] if self._change.stages else []
        if not notes:
            folder.write_plan(self.plan)
        found = self._newest(open_[0], notes) if open_ else None
        if (found is not None or finished) and (told := identity.other_versions(self._versions(), export.versions())):
            notes.append(Note("warning", told))
        self._mend_log(finished, open_[0] if open_ else None, found)
        self.emit(
            RunStarted(self.plan.spec.name, tuple(names), dict(export.versions()), self.plan.spec.seed, _step(found))
        )
        for note in notes:
            self.emit(note)
        tasks = {name: self._task(name) for name in dict.fromkeys(t for s in self.plan.stages for t in s.tasks)}
        heads = {name: task.head for name, task in tasks.items()}
        if wrong := tuple(conflicts(self.plan, heads)):
            raise DiagnosticError(*wrong)
        students = {stage.name: stage.needs.student for stage in self.plan.stages}
        models = Models(self.plan, heads, {students[n]: self.folder / e.folder for n, e in finished.items()})
        done = []
        for stage in self.plan.stages:
            if stage.name in finished:
                self.emit(StageSkipped(stage.name, "finished already"))
                continue
            start = found if stage.name == open_[0] else self._newest(stage.name)
            done.append(self._run_stage(stage, models, {name: tasks[name] for name in stage.tasks}, stop, start))
            if stop.requested is not None:
                raise Interrupted(stop.requested)
        rows = table(self.plan, models, tasks, torch.device(self._device()))
        folder.export(models.trained[self._final().needs.student])
        # The event before the file: a run without the file goes on from here, one with it does not.
        self.emit(RunFinished(time.perf_counter() - began, named(rows)))
        folder.keep_table(rows)
        return Result(self.folder, rows, folder.student, tuple(done))

    def _final(self) -> PlannedStage:
        """The stage whose student is that of the run: the last one with a teacher, or the last one."""
        taught = [stage for stage in self.plan.stages if stage.needs.teachers]
        return (taught or list(self.plan.stages))[-1]

    def _run_stage(
        self,
        stage: PlannedStage,
        models: Models,
        tasks: dict[str, BuiltTask],
        stop: StopSignal,
        found: Checkpoint | None,
    ) -> StageFinished:
        backend: Backend = SingleProcess(self._device(), stage.training.precision)
        run = StageRun(
            self.plan, stage, registry=self.registry, models=models, tasks=tasks, folder=self._folder,
            backend=backend, emit=self.emit, stop=stop,
            accept=partial(self._accept, stage.name) if stage.name in self._change.stages else None,
        )  # fmt: skip
        event = run.run(found)
        self._folder.finish(event)
        if run.accept is not None:
            run.accept()
        self.emit(event)
        return event

    def _accept(self, stage: str) -> None:
        """From now on this stage is that of the changed spec."""
        identity.accept(self.plan, self._folder, stage)
        self._folder.write_plan(self.plan)

    def _device(self) -> str:
        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")

    def _task(self, name: str) -> BuiltTask:
        component = self.plan.spec.tasks[name]
        with blaming(self.plan.spec, ("tasks", name, component.name), f"task `{name}`"):
            built = component.build(BuildContext(folder=self.plan.spec.document.folder, name=name))
        return guarded(self.plan.spec, name, built)

    def _newest(self, stage: str, notes: list[Note] | None = None) -> Checkpoint | None:
        """The checkpoint from which a stage goes on; what was found damaged is noted, at once or in `notes`."""
        store = self._folder.checkpoints(stage)
        report = self.emit if notes is None else notes.append
        found = store.latest(lambda text: report(Note("warning", text)))
        if found is None and (damaged := store.damaged()):
            label = self.plan.spec.label(("stages", stage), "cannot go on", key=True)
            message = f"every checkpoint of stage `{stage}` is damaged"
            help_ = "begin anew with `--restart`; nothing has been deleted"
            notes_ = tuple(f"`{path}`" for path in damaged)
            raise DiagnosticError(Diagnostic("KD504", message, label, notes=notes_, help=help_))
        return found

    def _versions(self) -> dict[str, str]:
        """The versions of the libraries at the last start."""
        records = read(self._folder.log) if self._folder.log.exists() else ()
        starts = [record.event for record in records if isinstance(record.event, RunStarted)]
        return starts[-1].versions if starts else {}

    def _logged(self) -> set[object]:
        """What the log has: the classes of its events, and of those that tell of a state on the disk their data."""
        found: set[object] = set()
        for record in read(self._folder.log) if self._folder.log.exists() else ():
            event = record.event
            found |= {
                type(event).__name__,
                (type(event).__name__, getattr(event, "stage", ""), getattr(event, "step", 0)),
            }
        return found

    def _mend_log(self, finished: dict[str, StageFinished], goes_on: str | None, found: Checkpoint | None) -> None:
        """Make the log tell of what is on the disk, neither more nor less, wherever the last start was killed."""
        if goes_on is not None:
            self._log.trim(goes_on, _step(found) or 0)
        logged = self._logged()
        for event in finished.values():
            if ("StageFinished", event.stage, event.step) not in logged:
                self._log.append(event)
        if goes_on is not None and found is not None and ("CheckpointSaved", goes_on, found.step) not in logged:
            self._log.append(saved(goes_on, found.step))


def _step(checkpoint: Checkpoint | None) -> int | None:
    return None if checkpoint is None else checkpoint.step


def _changed(change: identity.Change) -> str:
    stages = ", ".join(f"`{name}`" for name in change.stages)
    what = f": {'; '.join(change.differences)}" if change.differences else ""
    return f"going on with a changed spec in {stages}{what}"


def _told(plugin: Plugin, error: BaseException) -> str:
    return f"observer {plugin.distribution} ({plugin.origin}) raised {type(error).__name__}: {error}"
