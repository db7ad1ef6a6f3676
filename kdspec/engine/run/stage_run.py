"""Runs a stage: trains it step by step, and logs, evaluates, saves and stops between the steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.evaluation.best_model import BestModelTracker, EvaluationProgress
from kdspec.engine.evaluation.build_tracker import build_tracker
from kdspec.engine.evaluation.calibrate import Calibrator, place
from kdspec.engine.export import calibration_record
from kdspec.engine.export.model_card import write_card
from kdspec.engine.forward.error_context import FEWER_ROWS, during, placing
from kdspec.engine.run import resources
from kdspec.engine.run.build_stage import BuiltStage, StageSetup, build_stage
from kdspec.engine.run.checkpoint import Checkpoint
from kdspec.engine.run.signals import STEP, Stop, StopSignal
from kdspec.engine.run.stage_checkpoints import StageCheckpoints, read_state, spread
from kdspec.engine.run.triggers import Triggers
from kdspec.engine.step.training_loop import TrainingLoop
from kdspec.engine.teacher_cache.cache import CacheUse
from kdspec.engine.teacher_cache.open_cache import opened as cache_opened
from kdspec.events import Evaluated, Event, Note, StageFinished, StageStarted, StepDone


class Interrupted(Exception):  # noqa: N818 - what happened, not an error
    """A signal asked the run to stop; its state is saved."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


def run_stage(
    setup: StageSetup,
    found: Checkpoint | None,
    *,
    emit: Callable[[Event], None],
    stop: StopSignal,
    accept: Callable[[], None] | None = None,
) -> StageFinished:
    """Train a stage from a checkpoint of rank 0, or from the beginning, to the end.

    Args:
        setup: what the stage is built from.
        found: the checkpoint to resume from.
        emit: called with the events.
        stop: the signal that stops the run: after a step, or at once where it does not train.
        accept: given if the stage resumes with a changed spec; called after each checkpoint of that spec.

    Raises:
        Interrupted: a signal arrived; the state is saved.
        FindingError: KD5xx.
    """
    began = time.perf_counter()
    stage, backend = setup.stage, setup.backend
    found = spread(found, backend.process_group)
    processes = backend.world if found is None else read_state(found).processes
    with placing(stage.at, f"stage `{stage.name}`"):
        built = build_stage(setup, processes, warn=lambda text: emit(Note("warning", text)))
        with closing(built.compilation):
            checkpoints = StageCheckpoints(
                built.loop,
                setup.folder.checkpoints(stage.name, stage.training.checkpoint.keep),
                processes=processes,
                check_folder=setup.folder.check,
                emit=emit,
                accept=accept,
            )
            progress = EvaluationProgress() if found is None else checkpoints.resume(found)
            run = StageRun(setup, built, checkpoints, progress, emit=emit, stop=stop, began=began)
            run.train()
            return run.finish()


class StageRun:
    """A stage from its first step, or the step of a checkpoint, to the exported student."""

    def __init__(
        self,
        setup: StageSetup,
        built: BuiltStage,
        checkpoints: StageCheckpoints,
        progress: EvaluationProgress,
        *,
        emit: Callable[[Event], None],
        stop: StopSignal,
        began: float,
    ) -> None:
        """`began` is the time of `time.perf_counter` when this start of the stage began."""
        self.setup, self.built, self.checkpoints, self.progress = setup, built, checkpoints, progress
        self.stage, self.loop, self.backend = setup.stage, built.loop, setup.backend
        self.emit, self.stop = emit, stop
        # Earlier starts count too: the event of a finished stage has the time of all of them.
        self._zero = began - progress.seconds
        self._told_nan = False
        self._saved = progress.step
        """The step of the newest checkpoint."""
        self._between = True
        """Whether weights and optimizer are those of a number of whole steps."""

    def train(self) -> None:
        """Do the steps that are left; caches and lanes are closed at the end, however it ends.

        Raises:
            Interrupted: a signal arrived; the state is saved.
            FindingError: KD5xx.
        """
        loop, resumed = self.loop, self.progress.step > 0
        self._check_disk()
        epochs = loop.total_steps / loop.draws.steps_per_epoch
        rows = sum(task_inputs.loader.rows for task_inputs in loop.inputs_of.values())
        self.emit(StageStarted(self.stage.name, loop.total_steps, epochs, rows, self.progress.step))
        self.emit(self.built.looked.event)
        for note in () if resumed else (*self.built.looked.notes, *self.built.notes):
            self.emit(note)
        for state in self.built.caches:
            self.emit(state)
        try:
            uses: Sequence[CacheUse | None] = [None] * len(loop.caches)
            self._steps()
            uses = _cache_uses(loop)
        except Stop:
            self._save_what_is_done()
            raise
        finally:
            for cache, use in zip(loop.caches, uses, strict=True):
                # A full disk must not hide the reason why the stage ends.
                with suppress(FindingError):
                    self.emit(cache_opened(self.stage.name, cache, use or cache.use, self.progress.step))
                cache.close()
            if loop.lanes is not None:
                loop.lanes.close()

    def _steps(self) -> None:
        loop, progress, training = self.loop, self.progress, self.stage.training
        tracker = self._tracker()
        if (calibrator := self._calibrator()) is not None and not progress.step:
            with self._calibrating():
                calibrator.check()
        evaluate, kept, per_epoch = (
            training.evaluate or training.checkpoint,
            training.checkpoint,
            loop.draws.steps_per_epoch,
        )
        evaluations = Triggers(loop.total_steps, per_epoch, evaluate.every_steps, evaluate.every_epochs)
        saves = Triggers(loop.total_steps, per_epoch, kept.every_steps, kept.every_epochs)
        if progress.evaluates and tracker is not None:
            self._evaluate(tracker)
        if self._patience_is_over():  # a checkpoint of the step at which training stopped early
            return
        steps = resources.explaining(loop, progress.step)
        while True:
            # A signal waits for the end of the step, so that none is lost.
            with self.stop.held(STEP):
                done = self._next(steps)
                if done is None:
                    return
                progress.evaluates = tracker is not None and evaluations.due(done.step)
                self._log(done)
                # A collective, so that all ranks stop after the same step: a signal may reach one of them only.
                stopped = self.backend.process_group.largest(self.stop.requested or 0)
                # Before the evaluation, which may take longer than the step, or all memory: it is all that a kill then
                # costs. The best student is loaded from its checkpoint at the end.
                if progress.evaluates or stopped or saves.due(done.step):
                    self._save()
            if stopped:
                raise Interrupted(stopped)
            if progress.evaluates and tracker is not None:
                self._evaluate(tracker)
            if self._patience_is_over():
                return

    def _next(self, steps: Iterator[StepDone]) -> StepDone | None:
        """Do one step; None after the last one."""
        self._between = False
        done = next(steps, None)
        if done is not None:
            self.progress.step = self.backend.process_group.heartbeat.step = done.step
        self._between = True
        return done

    def _save(self) -> None:
        self.progress.seconds = time.perf_counter() - self._zero
        with self.stop.saving():
            self.checkpoints.save(self.progress)
            self._saved = self.progress.step

    def _save_what_is_done(self) -> None:
        """After a signal that could not wait: save the steps that are done, unless their weights are being changed.

        A step that is cut before it changes any is as if it had not begun.
        """
        done = self._between or self.loop.untouched
        if done and self.progress.step != self._saved and self.backend.world == 1:
            with self.stop.saving():
                self._save()

    def _evaluate(self, tracker: BestModelTracker) -> None:
        """Evaluate the student at the current step, whose checkpoint is on disk."""
        with self._evaluating():
            evaluated = tracker(self.progress)
        self.emit(evaluated)
        self._tell_nan(evaluated)

    def _tracker(self) -> BestModelTracker | None:
        """What evaluates the student, if there is anything to evaluate on."""
        tracker, notes = build_tracker(self.setup.plan, self.loop, self.setup.tasks, self.built.loader)
        if not self.progress.step:
            for note in notes:
                self.emit(note)
            if tracker is not None:
                with self._evaluating():
                    tracker.check()
        return tracker

    def _evaluating(self) -> AbstractContextManager[None]:
        at = ("stages", self.stage.name, "training", "evaluate")
        return during(at, f"while `{self.stage.student}` is evaluated", FEWER_ROWS)

    def _tell_nan(self, evaluated: Evaluated) -> None:
        """Note the first metric that is not a number."""
        name = next((name for name, value in evaluated.metrics.items() if math.isnan(value)), None)
        if name is not None and not self._told_nan:
            self._told_nan = True
            why = "a correlation needs predictions and labels that are not all equal"
            self.emit(Note("info", f"`{name}` of `{evaluated.model}` is nan at step {evaluated.step}: {why}"))

    def _log(self, done: StepDone) -> None:
        if done.step == 1 and self.loop.unused:
            self.emit(_without_gradient(self.stage.student, self.loop.unused))
        if done.step % self.stage.training.log_every == 0 or done.step in (1, self.loop.total_steps):
            self.emit(done)

    def _check_disk(self) -> None:
        training = self.stage.training
        # Each evaluation is preceded by a checkpoint.
        steps = (
            each.every_steps or (each.every_epochs or 1) * self.loop.draws.steps_per_epoch
            for each in (training.checkpoint, training.evaluate or training.checkpoint)
        )
        saves = math.ceil((self.loop.total_steps - self.progress.step) / min(steps))
        at = ("stages", self.stage.name, "training", "checkpoint")
        if self.backend.is_main:
            resources.check_disk(self.setup.folder, self.stage.name, self.loop, saves, at)

    def _patience_is_over(self) -> bool:
        stopping = self.stage.training.early_stopping
        return stopping is not None and self.progress.without_better >= stopping.patience

    def finish(self) -> StageFinished:
        """Export the best student, or the last one if none was evaluated.

        Raises:
            FindingError: KD508.
        """
        progress, student, loop = self.progress, self.stage.student, self.loop
        if progress.step < loop.total_steps:
            text = f"stage `{self.stage.name}` stopped early, after {progress.step} of {loop.total_steps} steps"
            self.emit(Note("info", f"{text}: nothing was better than step {progress.best_step}"))
        best = progress.best_step
        if best is not None and best != progress.step and not self.checkpoints.load_best(best):
            progress.best_step = progress.best_metrics = None
        metrics = progress.best_metrics or {}
        folder = self.setup.folder.model(student)
        self._replace_sharded()
        calibration = self._calibrated()
        if self.backend.is_main:
            self.setup.folder.take_over(folder)
            self.setup.folder.replace(folder, lambda fresh: self._export(fresh, metrics, calibration))
        self.backend.barrier()  # other processes may read the model from here
        self.setup.models.trained[student] = folder
        kept = self.setup.plan.kept.get(student)
        if kept is not None and kept.folded:  # its layers are others from here on, now and in a run that resumes
            self.setup.models.forget(student)
        self._keep_changed()
        at = str(folder.relative_to(self.setup.folder.path))
        return StageFinished(
            self.stage.name, progress.step, progress.seconds, progress.best_step, metrics, at, calibration
        )

    def _calibrator(self) -> Calibrator | None:
        if self.stage.training.calibrate is None:
            return None
        setup = self.setup
        return Calibrator(setup.plan, self.stage, setup.models, setup.tasks, setup.backend)

    def _calibrated(self) -> dict[str, Any]:
        """Calibrate the student, which changes its last layer, if the stage asks for it."""
        calibrator = self._calibrator()
        if calibrator is None:
            return {}
        with self._calibrating():
            return calibrator(self.emit)

    def _calibrating(self) -> AbstractContextManager[None]:
        return during(place(self.stage.name), f"while `{self.stage.student}` is calibrated", FEWER_ROWS)

    def _keep_changed(self) -> None:
        """Write the teachers that the strategy has changed, for later stages and a later start."""
        for name in self.stage.needs.changing:
            folder = self.setup.folder.model(name)
            if self.backend.is_main:
                self.setup.folder.take_over(folder)
                self.setup.folder.replace(folder, partial(self.setup.models.save, name))
            self.backend.barrier()
            self.setup.models.trained[name] = folder

    def _replace_sharded(self) -> None:
        """Replace a sharded student by an ordinary module with its trained weights, and forget sharded teachers."""
        if (whole := self.built.whole_student) is None:
            return
        # On every process: gathering the weights is a collective.
        whole.load_state_dict(self.backend.state(self.loop.trainable.student))
        self.setup.models.put(self.stage.student, whole)
        for teacher in self.stage.teachers if self.backend.divides_teachers else ():
            self.setup.models.forget(teacher)

    def _export(self, folder: Path, metrics: Mapping[str, float], calibration: Mapping[str, Any]) -> None:
        self.setup.models.save(self.stage.student, folder)
        calibration_record.write(folder, calibration)
        write_card(folder, self.setup.plan, self.stage, metrics, reads=self.setup.reads, calibration=calibration)


def _cache_uses(loop: TrainingLoop) -> list[CacheUse]:
    """The use of each cache, summed over all processes."""
    each = loop.backend.process_group.collect([[cache.use.hits, cache.use.computed] for cache in loop.caches])
    return [sum((CacheUse(*numbers) for numbers in of_cache), CacheUse()) for of_cache in zip(*each, strict=True)]


def _without_gradient(student: str, names: Sequence[str]) -> Note:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    if more:
        text = f"parameters `{names[0]}`{more} of `{student}` receive no gradient and keep their initial values"
    else:
        text = f"parameter `{names[0]}` of `{student}` receives no gradient and keeps its initial value"
    return Note("info", text)
