"""Builds the training loop of a stage, from its plan to the moment before the first step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from kdspec.api.plan.plan import Plan, StagePlan, TaskPlan
from kdspec.api.spec.match import PlannedMatch
from kdspec.api.working.objective import Objective
from kdspec.api.working.task import BuiltTask
from kdspec.diagnostics.finding import Finding, FindingError, Mark, SpecPath
from kdspec.engine.batches.loader import Loader
from kdspec.engine.batches.sampler import fold
from kdspec.engine.forward.error_context import FEWER_ROWS, OTHER_DEVICE, during, error_context
from kdspec.engine.forward.models import Models
from kdspec.engine.identity.reading import ReadContent
from kdspec.engine.preflight.look import Look, Looked
from kdspec.engine.processes.backend import Backend
from kdspec.engine.run.run_folder import RunFolder
from kdspec.engine.run.triggers import total_steps
from kdspec.engine.step import nan_report
from kdspec.engine.step.build_inputs import StageInputs
from kdspec.engine.step.build_models import StageModels
from kdspec.engine.step.compilation import Compilation
from kdspec.engine.step.embedding_gradients import InPlace
from kdspec.engine.step.lanes.build_lanes import build_lanes
from kdspec.engine.step.lanes.lanes import Lanes
from kdspec.engine.step.optimization import Optimization
from kdspec.engine.step.trainable import TrainableModule
from kdspec.engine.step.training_loop import TrainingLoop
from kdspec.events import CacheState, Note
from kdspec.registry.registry import Registry


@dataclass(frozen=True, kw_only=True)
class StageSetup:
    """What a stage is built from."""

    plan: Plan
    stage: StagePlan
    registry: Registry
    models: Models
    tasks: Mapping[str, BuiltTask]
    folder: RunFolder
    backend: Backend
    reads: tuple[ReadContent, ...] = ()
    """What the stage reads, by digest, for the card of its student."""


@dataclass(frozen=True, kw_only=True)
class BuiltStage:
    """A stage before its first step. Close `compilation` at the end of the stage, and the caches and lanes of `loop`."""

    loop: TrainingLoop
    loader: Callable[[TaskPlan, str, str], Loader]
    """The rows of a task and a split, for a model."""
    notes: tuple[Note, ...]
    """What users should know before the first step."""
    caches: tuple[CacheState, ...]
    """The cache of each teacher, or the reason why it has none."""
    compilation: Compilation
    looked: Looked
    """What was found at its rows and models."""
    whole_student: nn.Module | None
    """If the backend shards the student: its copy on the CPU, which gets the trained weights at the end."""


def build_stage(setup: StageSetup, processes: int, warn: Callable[[str], None]) -> BuiltStage:
    """Build a stage, and look at its rows and models; it emits nothing and trains nothing.

    Args:
        setup: what it is built from.
        processes: the number of processes that the stage began with: a step keeps its rows if it resumes with another one.
        warn: called during training with problems that do not stop it, such as a cache that cannot be written.

    Raises:
        FindingError: KD5xx.
    """
    stage, backend = setup.stage, setup.backend
    stage_models = StageModels(setup.plan, stage, setup.models, setup.tasks, backend.device, backend)
    inputs = StageInputs(stage_models, setup.registry, backend, processes)
    # Before `wrap`, while the student is whole; a teacher's cache is opened afterwards, and not by a stage that is refused.
    look = Look(plan=setup.plan, stage=stage, models=setup.models, tasks=setup.tasks, backend=backend)
    # Its batches are few rows, whatever the spec has.
    with during(stage.at, "before the first step, at the look at rows and models", FEWER_ROWS, batches=OTHER_DEVICE):
        looked = look(inputs.by_task)
    steps = total_steps(inputs.draws.steps_per_epoch, stage.training.epochs, stage.training.steps)
    trainable = stage_models.trainable(setup.models.module(stage.student), inputs.matches)
    if backend.divided and trainable.works_on_models:
        raise _needs_whole_models(stage)
    # The copy is made before `wrap`, which shards the parameters in place.
    whole_student = copy.deepcopy(trainable.student).cpu() if backend.divided else None
    # The optimizer is made after `wrap`: it must hold the parameters that FSDP2 puts in place of the former ones.
    backend.wrap(trainable)
    by_task, caches = inputs.with_caches(
        steps, prepares=trainable.works_on_models, reduces=trainable.objective.reads_teachers_by_matches, warn=warn
    )
    optimization = Optimization(stage, trainable, steps, backend.world)
    # Optimizers outside torch may write to gradients; so does clipping by a norm that is not finite, with a scaled loss.
    keep = type(optimization.optimizer).__module__.startswith("torch.optim") and not backend.scales
    loop = TrainingLoop(
        stage=stage, inputs_of=by_task, trainable=trainable, draws=inputs.draws, optimization=optimization,
        embeddings=InPlace(trainable.student, keep=keep), backend=backend,
        seed=fold(setup.plan.spec.seed, "stage", stage.name), total_steps=steps,
        place=_places_of_terms(stage, inputs.matches, trainable.objective),
        guard=error_context(stage.at, "the objective"),
        backward_guard=error_context(stage.at, "the backward pass"),
        keep_batch=partial(nan_report.keep, setup.folder, stage.name),
    )  # fmt: skip
    notes = list(inputs.notes)
    with ExitStack() as undone_on_error:
        compilation = undone_on_error.enter_context(closing(Compilation()))
        if stage.training.compile:
            compilation.of(loop, notes.append)
        if stage.training.lanes > 1:
            # After compilation: lanes are copies of the modules as they are now.
            loop, note = _with_lanes(loop, partial(stage_models.trainable, matches=inputs.matches))
            notes.append(note)
        undone_on_error.pop_all()
    notes += _untrained_teachers(setup, loop)
    return BuiltStage(
        loop=loop, loader=inputs.loader, notes=tuple(notes), caches=tuple(caches), compilation=compilation,
        looked=looked, whole_student=whole_student,
    )  # fmt: skip


def _with_lanes(loop: TrainingLoop, again: Callable[[nn.Module], TrainableModule]) -> tuple[TrainingLoop, Note]:
    """The loop with the lanes of its settings, if it can have any, and a note about them."""
    stage = loop.stage
    lanes = build_lanes(loop, again)
    if isinstance(lanes, Lanes):
        text = f"stage `{stage.name}`: {lanes.count} micro-batches in parallel"
        return replace(loop, lanes=lanes), Note("info", text)
    return loop, Note("warning", f"`lanes: {stage.training.lanes}` of stage `{stage.name}` has no effect: {lanes}")


def _untrained_teachers(setup: StageSetup, loop: TrainingLoop) -> Iterator[Note]:
    """Warnings of teachers with randomly initialised weights that no stage has trained: their predictions are noise."""
    models = setup.models
    teachers = (each for task_inputs in loop.inputs_of.values() for each in task_inputs.teachers.values())
    for teacher in {each.name: each for each in teachers}.values():
        initialised = sorted(models.initialised.get(teacher.name, ()))
        if teacher.name in models.trained or not initialised:
            continue
        everything = len(initialised) == len(dict(teacher.module.named_parameters()))
        # A new head harms nothing if only hidden states are read.
        if everything or teacher.features.keys() & {"logits", "losses"}:
            more = f" and {len(initialised) - 1} more" if len(initialised) > 1 else ""
            text = f"teacher `{teacher.name}` has randomly initialised weights, `{initialised[0]}`{more}, and no stage trains it"
            help_ = f"train it in a stage before `{setup.stage.name}`"
            yield Note("warning", f"{text}: its predictions are noise; {help_}")


def _needs_whole_models(stage: StagePlan) -> FindingError:
    message = f"the strategy `{stage.distiller.name}` uses the models between their forward passes, when FSDP2 has sharded them"
    label = Mark(stage.at[:-1], "builds its own batches or changes modules", key=True)
    return FindingError(Finding("KD513", message, *label, help="use `--backend ddp`"))


def _places_of_terms(
    stage: StagePlan, matches: tuple[PlannedMatch, ...], objective: Objective
) -> Callable[[str], SpecPath]:
    paths = {match.term: match.path for match in matches}
    return lambda term: paths.get(term) or (*stage.at, *objective.path_of(term))
