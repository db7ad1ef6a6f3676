"""One stage, from its models to a trained student: builds, resumes, trains, evaluates and saves it."""

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
    """Runs a stage. All that it needs is passed in."""

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
        """`accept` is given if the stage resumes with a changed spec; it is called after the first checkpoint of that spec."""
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
        """Train from a checkpoint of rank 0, or from the beginning, to the end.

        Raises:
            Interrupted: a signal arrived; the state is saved.
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
            self._check_disk(loop)
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
                    # A full disk must not hide the reason why the stage ends.
                    with suppress(FindingError):
                        self.emit(cache_opened(self.stage.name, cache, use or cache.use, self.progress.step))
                    cache.close()
                if loop.lanes is not None:
                    loop.lanes.close()
            return self._finish(loop)

    def _cache_uses(self, loop: TrainingLoop) -> list[CacheUse]:
        """The use of each cache, summed over all processes."""
        each = self.backend.process_group.collect([[cache.use.hits, cache.use.computed] for cache in loop.caches])
        return [sum((CacheUse(*numbers) for numbers in of_cache), CacheUse()) for of_cache in zip(*each, strict=True)]

    def loop(self) -> TrainingLoop:
        """The training loop of the stage, before its first step."""
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
            inputs_of.notes.append(Note("info", f"stage `{self.stage.name}`: {lanes.count} micro-batches in parallel"))
            return replace(loop, lanes=lanes)
        text = f"`lanes: {training.lanes}` of stage `{self.stage.name}` has no effect: {lanes}"
        inputs_of.notes.append(Note("warning", text))
        return loop

    def _undivided(self) -> FindingError:
        name = self.stage.distiller.name
        message = f"the strategy `{name}` uses the models between their forward passes, when FSDP2 has sharded them"
        label = Mark(self.path[:-1], "builds its own batches or changes modules", key=True)
        return FindingError(Finding("KD513", message, *label, help="use `--backend ddp`"))

    def _place_of(self, matches: tuple[PlannedMatch, ...], objective: Objective) -> Callable[[str], SpecPath]:
        paths = {match.term: match.path for match in matches}

        def place(term: str) -> SpecPath:
            return paths.get(term) or (*self.path, *objective.path_of(term))

        return place

    def _train(self, loop: TrainingLoop, seconds: Callable[[], float]) -> None:
        progress, kept = self.progress, self.training.checkpoint
        best_model = self._best_model_tracker(loop)
        per_epoch = loop.draws.steps_per_epoch
        evaluate = self.training.evaluate or kept
        evaluations = Triggers(loop.total_steps, per_epoch, evaluate.every_steps, evaluate.every_epochs)
        saves = Triggers(loop.total_steps, per_epoch, kept.every_steps, kept.every_epochs)
        if self._patience_is_over():
            return
        for done in resources.explaining(loop, progress.step):
            progress.step = self.backend.process_group.heartbeat.step = done.step
            if done.step == 1 and loop.idle:
                self.emit(_without_gradient(self.stage.student, loop.idle))
            if done.step % self.training.log_every == 0 or done.step in (1, loop.total_steps):
                self.emit(done)
            better = False
            if best_model is not None and evaluations.due(done.step):
                self.emit(evaluated := best_model(progress))
                better = evaluated.best
            stopped = self.backend.process_group.largest(self.stop.requested or 0)
            over = self._patience_is_over()
            progress.seconds = seconds()
            if better or stopped or over or saves.due(done.step):
                self._save(loop)
            if over:
                return
            if stopped and done.step < loop.total_steps:
                raise Interrupted(stopped)

    def _check_disk(self, loop: TrainingLoop) -> None:
        kept = self.training.checkpoint
        period = kept.every_steps or (kept.every_epochs or 1) * loop.draws.steps_per_epoch
        saves = math.ceil((loop.total_steps - self.progress.step) / period)
        at = ("stages", self.stage.name, "training", "checkpoint")
        if self.backend.is_main:
            resources.check_disk(self.folder, self.stage.name, loop, saves, at)

    def _best_model_tracker(self, loop: TrainingLoop) -> BestModelTracker | None:
        """The tracker of the best student, or None with a note if there is nothing to evaluate on."""
        if self.training.evaluate is None:
            return None
        student, evaluated_tasks = self.stage.student, []
        for part in self.stage.tasks.values():
            evaluator = self.tasks[part.task].evaluator("validation")
            features = evaluated_features(self.plan, student, part.task, evaluator)
            if not (features and self.tasks[part.task].rows("validation")):
                self._note_unevaluated(part, "no labels to evaluate on" if not features else "no validation rows")
                continue
            task_inputs = loop.inputs_of[part.task]
            forward = ModelRunner(
                student, task_inputs.student.module, features,
                chooses=task_inputs.student.accepted is not None, spec=self.spec, task=part.task,
                # The weights of a divided model are there in its forward pass alone.
                head=None if self.backend.divided else task_inputs.student.head,
            )  # fmt: skip
            loader = self.inputs_of.loader(part, "validation", student)
            evaluated_tasks.append(
                EvaluatedTask(
                    task=part.task, built=self.tasks[part.task], forward=forward, loader=loader, evaluator=evaluator
                )
            )
        if not evaluated_tasks:
            return None
        through = partial(self.backend.evaluate, loop.trainable)
        best_model = BestModelTracker(self.plan, self.stage, evaluated_tasks, self.backend.process_group, through)
        if not self.progress.step:
            best_model.check()
        return best_model

    def _note_unevaluated(self, part: TaskPlan, what: str) -> None:
        if self.progress.step:
            return
        if self.stage.several:
            text = f"task `{part.task}` of stage `{self.stage.name}` has {what}: it is ignored when selecting the best student"
        else:
            also = ", and it does not stop early" if self.training.early_stopping else ""
            text = f"stage `{self.stage.name}` has {what}: its last student is kept{also}"
        self.emit(Note("info", text))

    def _warn_of_noise(self, teacher: ModelRunner) -> None:
        """Warn of a teacher with randomly initialised weights that no stage has trained: its predictions are noise."""
        initialised = sorted(self.models.initialised.get(teacher.name, ()))
        if teacher.name in self.models.trained or not initialised:
            return
        everything = len(initialised) == len(dict(teacher.module.named_parameters()))
        if everything or teacher.features.keys() & {"logits", "losses"}:
            more = f" and {len(initialised) - 1} more" if len(initialised) > 1 else ""
            text = f"teacher `{teacher.name}` has randomly initialised weights, `{initialised[0]}`{more}, and no stage trains it"
            self.emit(
                Note("warning", f"{text}: its predictions are noise; train it in a stage before `{self.stage.name}`")
            )

    def _patience_is_over(self) -> bool:
        stopping = self.training.early_stopping
        return stopping is not None and self.progress.without_better >= stopping.patience

    def _save(self, loop: TrainingLoop) -> None:
        optimizer, names = loop.optimization.optimizer, _names(loop.trainable)
        # On every process: gathering sharded tensors is a collective.
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
        self.backend.barrier()  # no process may end before the checkpoint is on disk
        if self.accept is not None:
            self.accept()

    def _resume(self, loop: TrainingLoop, found: Checkpoint) -> None:
        self.backend.load(loop.trainable, found.tensors["weights"])
        tensors: Mapping[str, Tensor] = found.tensors.get("optimizer", {})
        optimizer_state.restore(
            loop.optimization.optimizer, _names(loop.trainable), tensors, found.meta["optimizer"],
            options=self.accept is None,  # a changed spec has its own
            part=self.backend.part,
        )  # fmt: skip
        self.backend.load_scaler_state(found.meta["scaler"])
        self.progress = EvaluationProgress(**found.meta["progress"])
        if self.begun != self.backend.world:
            text = f"stage `{self.stage.name}` was started with {self.begun} processes and resumes with {self.backend.world}"
            self.emit(Note("info", f"{text}: batches are unchanged, dropout masks differ"))

    def _finish(self, loop: TrainingLoop) -> StageFinished:
        """Keep the best student, or the last one if none was evaluated."""
        progress, student = self.progress, self.stage.student
        if progress.step < loop.total_steps:
            text = f"stage `{self.stage.name}` stopped early, after {progress.step} of {loop.total_steps} steps"
            self.emit(Note("info", f"{text}: nothing was better than step {progress.best_step}"))
        if progress.best_step not in (None, progress.step):
            self._go_back(loop, progress)
        metrics = progress.best_metrics or {}
        folder = self.folder.model(student)
        if self.backend.divided:
            self._gather(loop, student)
        if self.backend.is_main:
            self.folder.replace(folder, lambda fresh: self._export(fresh, metrics))
        self.backend.barrier()  # other processes may read the model from here
        self.models.trained[student] = folder
        at = str(folder.relative_to(self.folder.path))
        return StageFinished(self.stage.name, progress.step, progress.seconds, progress.best_step, metrics, at)

    def _gather(self, loop: TrainingLoop, student: str) -> None:
        """Replace the sharded student by an ordinary module with its trained weights."""
        self._whole.load_state_dict(self.backend.state(loop.trainable.student))
        self.models.put(student, self._whole)
        for teacher in self.stage.teachers if self.backend.divides_teachers else ():
            self.models.forget(teacher)

    def _go_back(self, loop: TrainingLoop, progress: EvaluationProgress) -> None:
        """Load the best student; without its checkpoint the last one is kept."""
        assert progress.best_step is not None
        best = None
        if self.backend.is_main:
            try:
                best = self.store.load(progress.best_step)
            except FindingError as error:
                text = f"{error.findings[0].message}: the last student is kept instead of the best"
                self.emit(Note("warning", text))
        if (best := spread(best, self.backend.process_group)) is not None:
            self.backend.load(loop.trainable, best.tensors["weights"])
        else:
            progress.best_step = progress.best_metrics = None

    def _export(self, folder: Path, metrics: Mapping[str, float]) -> None:
        self.models.save(self.stage.student, folder)
        model_folder.write_card(folder, self.plan, self.stage, metrics)


def spread(found: Checkpoint | None, process_group: ProcessGroup) -> Checkpoint | None:
    """Broadcast the checkpoint of rank 0."""
    if process_group.world == 1:
        return found
    shared = process_group.share(None if found is None else [found.step, found.meta, list(found.tensors)])
    if shared is None:
        return None
    step, meta, groups = shared
    return Checkpoint(
        step, {group: process_group.spread(found.tensors[group] if found else {}) for group in groups}, meta
    )


def saved(stage: str, step: int) -> CheckpointSaved:
    """The event of a checkpoint on disk."""
    return CheckpointSaved(stage, step, f"checkpoints/{stage}/step-{step:08d}")


def _without_gradient(student: str, names: list[str]) -> Note:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    if more:
        text = f"parameters `{names[0]}`{more} of `{student}` receive no gradient and keep their initial values"
    else:
        text = f"parameter `{names[0]}` of `{student}` receives no gradient and keeps its initial value"
    return Note("info", text)


def _names(trainable: nn.Module) -> dict[Tensor, str]:
    return {parameter: name for name, parameter in trainable.named_parameters()}
