"""One stage, from its models to a trained student: set up, resumed, trained, judged, saved."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from kdspec.api.match import PlannedMatch
from kdspec.api.objective import Objective
from kdspec.api.plan import Plan, StagePlan, TaskPlan
from kdspec.api.task import BuiltTask
from kdspec.diagnostics.finding import Finding, FindingError, Mark, SpecPath
from kdspec.engine.batches.sampler import fold
from kdspec.engine.evaluation.best_model import BestModelTracker, EvaluatedTask, EvaluationProgress, evaluated_features
from kdspec.engine.export import model_folder
from kdspec.engine.forward.error_context import error_context, placing
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.forward.models import Models
from kdspec.engine.processes.backend import Backend
from kdspec.engine.processes.process_group import ProcessGroup
from kdspec.engine.run import optimizer_state, resources
from kdspec.engine.run.checkpoint import Checkpoint
from kdspec.engine.run.run_folder import RunFolder
from kdspec.engine.run.signals import StopSignal
from kdspec.engine.run.triggers import Triggers, total_steps
from kdspec.engine.step import nan_report
from kdspec.engine.step.build_inputs import StageInputs
from kdspec.engine.step.build_models import StageModels
from kdspec.engine.step.compilation import Compilation
from kdspec.engine.step.embedding_gradients import InPlace
from kdspec.engine.step.lanes.build_lanes import build_lanes
from kdspec.engine.step.lanes.lanes import Lanes
from kdspec.engine.step.optimization import Optimization
from kdspec.engine.step.training_loop import TrainingLoop
from kdspec.engine.teacher_cache.cache import CacheUse
from kdspec.engine.teacher_cache.open_cache import opened as cache_opened
from kdspec.events import CheckpointSaved, Event, Note, StageFinished, StageStarted
from kdspec.registry.registry import Registry


class Interrupted(Exception):  # noqa: N818 - what happened, not an error
    """A signal asked the run to stop; its state is saved."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


class StageRun:
    """A stage at work. Everything it needs is passed in; `run` does all of it."""

    def __init__(
        self,
        plan: Plan,
        stage: StagePlan,
        *,
        registry: Registry,
        models: Models,
        tasks: Mapping[str, BuiltTask],
        folder: RunFolder,
        backend: Backend,
        emit: Callable[[Event], None],
        stop: StopSignal,
        accept: Callable[[], None] | None = None,
    ) -> None:
        """`accept` is there where the stage goes on with a changed spec: called once its state is that of the new one."""
        self.plan, self.stage, self.registry, self.models, self.tasks = plan, stage, registry, models, tasks
        self.folder, self.backend, self.emit, self.stop = folder, backend, emit, stop
        self.accept = accept
        self.spec, self.training = plan.spec, stage.training
        self.path = stage.at
        self.seed = fold(plan.spec.seed, "stage", stage.name)
        self.progress, self.begun = EvaluationProgress(), backend.world
        self.compilation = Compilation()
        self.store = folder.checkpoints(stage.name, self.training.checkpoint.keep)

    def run(self, found: Checkpoint | None) -> StageFinished:
        """Train from a checkpoint of the main process, or from the start, to the end.

        Raises:
            Interrupted: a signal came; the state is saved.
            FindingError: KD5xx.
        """
        began = time.perf_counter()
        found = spread(found, self.backend.process_group)
        if found is not None:
            self.begun = found.meta.get("processes", 1)
        with placing(self.path, f"stage `{self.stage.name}`"), closing(self.compilation):
            loop = self.loop()
            if found is not None:
                self._resume(loop, found)
            self._check_room(loop)
            before = self.progress.seconds
            epochs = loop.total_steps / loop.draws.steps_per_epoch
            rows = sum(task_inputs.loader.rows for task_inputs in loop.inputs_of.values())
            self.emit(StageStarted(self.stage.name, loop.total_steps, epochs, rows, self.progress.step))
            if found is None:
                for note in self.inputs_of.notes:
                    self.emit(note)
                teachers = (each for task_inputs in loop.inputs_of.values() for each in task_inputs.teachers.values())
                for teacher in {each.name: each for each in teachers}.values():
                    self._warn_of_noise(teacher)
            for state in self.inputs_of.caches:
                self.emit(state)
            try:
                uses: Sequence[CacheUse | None] = [None] * len(loop.caches)
                self._train(loop, lambda: before + time.perf_counter() - began)
                uses = self._cache_uses(loop)
            finally:
                for cache, use in zip(loop.caches, uses, strict=True):
                    # A disk that refuses this must not hide why the stage ends.
                    with suppress(FindingError):
                        self.emit(cache_opened(self.stage.name, cache, use or cache.use, self.progress.step))
                    cache.close()
                if loop.lanes is not None:
                    loop.lanes.close()
            return self._finish(loop)

    def _cache_uses(self, loop: TrainingLoop) -> list[CacheUse]:
        """What all processes together have done with each cache."""
        told = self.backend.process_group.collect([[cache.use.hits, cache.use.computed] for cache in loop.caches])
        return [sum((CacheUse(*numbers) for numbers in of_cache), CacheUse()) for of_cache in zip(*told, strict=True)]

    def loop(self) -> TrainingLoop:
        """Everything of the stage put together, before its first step."""
        training = self.training
        stage_models = StageModels(self.plan, self.stage, self.models, self.tasks, self.backend.device, self.backend)
        inputs_of = self.inputs_of = StageInputs(stage_models, self.registry, self.backend, self.begun)
        steps = total_steps(inputs_of.draws.steps_per_epoch, training.epochs, training.steps)
        trainable = stage_models.trainable(self.models.module(self.stage.student), inputs_of.matches)
        if self.backend.divided and trainable.works_on_models:
            raise self._undivided()
        if self.backend.divided:
            self._whole = copy.deepcopy(trainable.student).cpu()
        self.backend.wrap(trainable)
        inputs_of.keep(
            steps, prepares=trainable.works_on_models, reduces=trainable.objective.reads_teachers_by_matches,
            warn=lambda text: self.emit(Note("warning", text)),
        )  # fmt: skip
        optimization = Optimization(self.stage, trainable, steps, self.backend.world)
        # Those of others may write to gradients, and clipping by a scaled one that is not finite does.
        keep = type(optimization.optimizer).__module__.startswith("torch.optim") and not self.backend.scales
        loop = TrainingLoop(
            stage=self.stage, inputs_of=inputs_of.by_task, trainable=trainable, draws=inputs_of.draws, optimization=optimization,
            embeddings=InPlace(trainable.student, keep=keep),
            backend=self.backend, seed=self.seed, total_steps=steps, place=self._place_of(inputs_of.matches, trainable.objective),
            guard=error_context(self.path, "the objective"),
            backward_guard=error_context(self.path, "the backward pass"),
            keep_batch=partial(nan_report.keep, self.folder, self.stage.name),
        )  # fmt: skip
        if training.compile:
            self.compilation.of(loop, inputs_of.notes.append)
        if training.lanes == 1:
            return loop
        lanes = build_lanes(loop, partial(stage_models.trainable, matches=inputs_of.matches))
        if isinstance(lanes, Lanes):
            inputs_of.notes.append(Note("info", f"stage `{self.stage.name}`: {lanes.count} micro-batches side by side"))
            return replace(loop, lanes=lanes)
        text = f"`lanes: {training.lanes}` of stage `{self.stage.name}` has no effect: {lanes}"
        inputs_of.notes.append(Note("warning", text))
        return loop

    def _undivided(self) -> FindingError:
        name = self.stage.distiller.name
        message = f"the strategy `{name}` works on the models between their forward passes, when FSDP2 has them divided"
        label = Mark(self.path[:-1], "makes its own batches or changes modules", key=True)
        return FindingError(Finding("KD513", message, *label, help="write `--backend ddp`"))

    def _place_of(self, matches: tuple[PlannedMatch, ...], objective: Objective) -> Callable[[str], SpecPath]:
        paths = {match.term: match.path for match in matches}

        def place(term: str) -> SpecPath:
            return paths.get(term) or (*self.path, *objective.path_of(term))

        return place

    def _train(self, loop: TrainingLoop, seconds: Callable[[], float]) -> None:
        progress, kept = self.progress, self.training.checkpoint
        best_model = self._judge(loop)
        per_epoch = loop.draws.steps_per_epoch
        judged = self.training.evaluate or kept
        judging_days = Triggers(loop.total_steps, per_epoch, judged.every_steps, judged.every_epochs)
        saving_days = Triggers(loop.total_steps, per_epoch, kept.every_steps, kept.every_epochs)
        if self._patience_is_over():
            return
        for done in resources.explaining(loop, progress.step):
            progress.step = self.backend.process_group.heartbeat.step = done.step
            if done.step == 1 and loop.idle:
                self.emit(_idle(self.stage.student, loop.idle))
            if done.step % self.training.log_every == 0 or done.step in (1, loop.total_steps):
                self.emit(done)
            better = False
            if best_model is not None and judging_days.due(done.step):
                self.emit(evaluated := best_model(progress))
                better = evaluated.best
            stopped = self.backend.process_group.largest(self.stop.requested or 0)
            over = self._patience_is_over()
            progress.seconds = seconds()
            if better or stopped or over or saving_days.due(done.step):
                self._save(loop)
            if over:
                return
            if stopped and done.step < loop.total_steps:
                raise Interrupted(stopped)

    def _check_room(self, loop: TrainingLoop) -> None:
        kept = self.training.checkpoint
        period = kept.every_steps or (kept.every_epochs or 1) * loop.draws.steps_per_epoch
        saves = math.ceil((loop.total_steps - self.progress.step) / period)
        at = ("stages", self.stage.name, "training", "checkpoint")
        if self.backend.is_main:
            resources.check_disk(self.folder, self.stage.name, loop, saves, at)

    def _judge(self, loop: TrainingLoop) -> BestModelTracker | None:
        """Who evaluates, or None, with a note, where the student cannot be judged."""
        if self.training.evaluate is None:
            return None
        student, judged = self.stage.student, []
        for part in self.stage.tasks.values():
            evaluator = self.tasks[part.task].evaluator("validation")
            features = evaluated_features(self.plan, student, part.task, evaluator)
            if not (features and self.tasks[part.task].rows("validation")):
                self._tell_unjudged(part, "no labels to judge by" if not features else "no validation rows")
                continue
            task_inputs = loop.inputs_of[part.task]
            forward = ModelRunner(
                student, task_inputs.student.module, features,
                chooses=task_inputs.student.accepted is not None, spec=self.spec, task=part.task,
            )  # fmt: skip
            loader = self.inputs_of.loader(part, "validation", student)
            judged.append(
                EvaluatedTask(
                    task=part.task, built=self.tasks[part.task], forward=forward, loader=loader, evaluator=evaluator
                )
            )
        if not judged:
            return None
        through = partial(self.backend.evaluate, loop.trainable)
        best_model = BestModelTracker(self.plan, self.stage, judged, self.backend.process_group, through)
        if not self.progress.step:
            best_model.check()
        return best_model

    def _tell_unjudged(self, part: TaskPlan, what: str) -> None:
        if self.progress.step:
            return
        if self.stage.several:
            text = f"task `{part.task}` of stage `{self.stage.name}` has {what}: it has no say in which student is best"
        else:
            also = ", and it does not stop early" if self.training.early_stopping else ""
            text = f"stage `{self.stage.name}` has {what}: its last student is kept{also}"
        self.emit(Note("info", text))

    def _warn_of_noise(self, teacher: ModelRunner) -> None:
        """A teacher whose head, or all of it, was drawn anew and never trained teaches noise."""
        initialised = sorted(self.models.initialised.get(teacher.name, ()))
        if teacher.name in self.models.trained or not initialised:
            return
        everything = len(initialised) == len(dict(teacher.module.named_parameters()))
        if everything or teacher.features.keys() & {"logits", "losses"}:
            more = f" and {len(initialised) - 1} more" if len(initialised) > 1 else ""
            text = f"teacher `{teacher.name}` has never been trained, so it teaches noise; drawn anew: `{initialised[0]}`{more}"
            self.emit(Note("warning", f"{text}; train it in a stage before `{self.stage.name}`"))

    def _patience_is_over(self) -> bool:
        stopping = self.training.early_stopping
        return stopping is not None and self.progress.without_better >= stopping.patience

    def _save(self, loop: TrainingLoop) -> None:
        optimizer, names = loop.optimization.optimizer, _names(loop.trainable)
        # Every process takes part in putting together what is divided.
        tensors, scalars = optimizer_state.flatten(optimizer, names, self.backend.whole)
        weights = self.backend.state(loop.trainable)
        if self.backend.is_main:
            self.folder.check()
            meta = {
                "progress": vars(self.progress),
                "optimizer": scalars,
                "scaler": self.backend.scaler_state(),
                "processes": self.begun,
            }
            best = () if self.progress.best_step is None else (self.progress.best_step,)
            self.store.save(self.progress.step, {"weights": weights, "optimizer": tensors}, meta, protect=best)
            self.emit(saved(self.stage.name, self.progress.step))
        self.backend.barrier()  # nobody ends before it is on the disk
        if self.accept is not None:
            self.accept()

    def _resume(self, loop: TrainingLoop, found: Checkpoint) -> None:
        self.backend.load(loop.trainable, found.tensors["weights"])
        tensors: Mapping[str, Tensor] = found.tensors.get("optimizer", {})
        optimizer_state.restore(
            loop.optimization.optimizer, _names(loop.trainable), tensors, found.meta["optimizer"],
            options=self.accept is None,  # those of a changed spec hold
            part=self.backend.part,
        )  # fmt: skip
        self.backend.load_scaler_state(found.meta["scaler"])
        self.progress = EvaluationProgress(**found.meta["progress"])
        if self.begun != self.backend.world:
            text = (
                f"stage `{self.stage.name}` was begun by {self.begun} processes, and goes on with {self.backend.world}"
            )
            self.emit(Note("info", f"{text}: each step has the rows that it would have had, dropout is drawn anew"))

    def _finish(self, loop: TrainingLoop) -> StageFinished:
        """Keep the best student, or the last where none was judged."""
        progress, student = self.progress, self.stage.student
        if progress.step < loop.total_steps:
            text = f"stage `{self.stage.name}` stopped early, after {progress.step} of {loop.total_steps} steps"
            self.emit(Note("info", f"{text}: nothing was better than step {progress.best_step}"))
        if progress.best_step not in (None, progress.step):
            self._go_back(loop, progress)
        metrics = progress.best_metrics or {}
        folder = self.folder.model(student)
        if self.backend.divided:
            self._put_together(loop, student)
        if self.backend.is_main:
            self.folder.replace(folder, lambda fresh: self._export(fresh, metrics))
        self.backend.barrier()  # from here on every process may read it
        self.models.trained[student] = folder
        at = str(folder.relative_to(self.folder.path))
        return StageFinished(self.stage.name, progress.step, progress.seconds, progress.best_step, metrics, at)

    def _put_together(self, loop: TrainingLoop, student: str) -> None:
        """Ordinary modules in place of divided ones, of the student with what it has learnt."""
        self._whole.load_state_dict(self.backend.state(loop.trainable.student))
        self.models.put(student, self._whole)
        for teacher in self.stage.teachers if self.backend.divides_teachers else ():
            self.models.forget(teacher)

    def _go_back(self, loop: TrainingLoop, progress: EvaluationProgress) -> None:
        """To the best student; where its checkpoint has been lost the last one must do."""
        assert progress.best_step is not None
        best = None
        if self.backend.is_main:
            try:
                best = self.store.load(progress.best_step)
            except FindingError as error:
                text = f"{error.findings[0].message}: the last student is kept in place of the best"
                self.emit(Note("warning", text))
        if (best := spread(best, self.backend.process_group)) is not None:
            self.backend.load(loop.trainable, best.tensors["weights"])
        else:
            progress.best_step = progress.best_metrics = None

    def _export(self, folder: Path, metrics: Mapping[str, float]) -> None:
        self.models.save(self.stage.student, folder)
        model_folder.write_card(folder, self.plan, self.stage, metrics)


def spread(found: Checkpoint | None, process_group: ProcessGroup) -> Checkpoint | None:
    """The checkpoint that the main process has, for all of them."""
    if process_group.world == 1:
        return found
    told = process_group.share(None if found is None else [found.step, found.meta, list(found.tensors)])
    if told is None:
        return None
    step, meta, groups = told
    return Checkpoint(
        step, {group: process_group.spread(found.tensors[group] if found else {}) for group in groups}, meta
    )


def saved(stage: str, step: int) -> CheckpointSaved:
    """The event for a checkpoint that is on the disk."""
    return CheckpointSaved(stage, step, f"checkpoints/{stage}/step-{step:08d}")


def _idle(student: str, names: list[str]) -> Note:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return Note("info", f"no loss reaches `{names[0]}`{more} of `{student}`: what was there at the start stays")


def _names(trainable: nn.Module) -> dict[Tensor, str]:
    return {parameter: name for name, parameter in trainable.named_parameters()}
