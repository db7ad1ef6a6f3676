"""The loop: one optimizer step after another, each a pure function of the seed and its number."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from kdspec.api.plan.plan import StagePlan
from kdspec.api.working.logits import Logits
from kdspec.api.working.step import Features, Step, Term
from kdspec.diagnostics.finding import Finding, FindingError, SpecPath
from kdspec.engine.batches.sampler import reseed, seed_of
from kdspec.engine.batches.task_sampler import Draws
from kdspec.engine.forward.model_runner import frozen
from kdspec.engine.processes.backend import Backend
from kdspec.engine.step.accumulator import Accumulator, Figures, LossEntry, together
from kdspec.engine.step.embedding_gradients import InPlace
from kdspec.engine.step.lanes.lane import Lane
from kdspec.engine.step.lanes.lanes import Lanes
from kdspec.engine.step.nan_cause import not_finite
from kdspec.engine.step.nan_report import non_finite_error
from kdspec.engine.step.normalization import NO_SHARE, Counted, Shares, counted, total
from kdspec.engine.step.optimization import Optimization
from kdspec.engine.step.task_inputs import MicroBatch, TaskInputs, TeacherFeatures
from kdspec.engine.step.trainable import TrainableModule
from kdspec.engine.step.whole_step import WholeTerm, check_whole_steps, over_whole_step
from kdspec.engine.teacher_cache.cache import TeacherCache
from kdspec.events import StepDone
from kdspec.ops.mean import Mean

SMALLEST_SCALE = 2.0**-20
"""A loss scale below this has been halved so often that the gradient does not overflow by chance."""


@dataclass(frozen=True, kw_only=True)
class DrawnStep:
    """The micro-batches of this process in one optimizer step, before the student's forward passes with a graph."""

    number: int
    """From 0."""
    drawn: Sequence[MicroBatch]
    shares: Shares
    teacher_features: Sequence[TeacherFeatures | None]
    """Teacher features that are known already; None where the teachers have still to run."""
    whole: Mapping[str, WholeTerm]
    """Terms over the whole step."""


@dataclass(kw_only=True)
class TrainingLoop:
    """One stage's training, ready to run from any step."""

    stage: StagePlan
    inputs_of: Mapping[str, TaskInputs]
    """By task."""
    trainable: TrainableModule
    draws: Draws
    optimization: Optimization
    backend: Backend
    seed: int
    total_steps: int
    place: Callable[[str], SpecPath]
    """Where the spec has a term, for an error."""
    guard: AbstractContextManager[None]
    """Around code of the strategy: what it raises becomes a diagnostic."""
    backward_guard: AbstractContextManager[None]
    """The same for the backward pass."""
    keep_batch: Callable[[int, list[MicroBatch], Mapping[str, float]], str]
    """Saves the batch of a step with a non-finite loss, and the values of its terms; returns a sentence with the place."""
    embeddings: InPlace
    """Of the student, where gradients need not go their ordinary way."""
    lanes: Lanes | None = None
    """Compute micro-batches in parallel."""
    unused: tuple[str, ...] = field(default=(), init=False)
    """The student's parameters without a gradient in the first step of this start; empty with several tasks."""
    spoilt: str | None = field(default=None, init=False)
    """A weight that was not finite when the stage began; some of an embedding may never be used."""
    _finishing: bool = field(default=False, init=False)
    """Whether the step may have begun to change the optimizer."""
    _versions: list[int] = field(default_factory=list, init=False)
    """Those of parameters and buffers before the step."""
    _audited: set[str] = field(default_factory=set, init=False)
    """The tasks whose losses have been searched for parameters outside the trainable module."""

    def __post_init__(self) -> None:
        check_whole_steps(self)

    @property
    def untouched(self) -> bool:
        """Whether the state is that before the step that has begun, because it has changed nothing yet.

        A strategy that works on the models may change anything; a model may change its buffers in the forward pass.
        """
        works_on_models = self.trainable.works_on_models
        return not (self._finishing or works_on_models) and self.trainable.versions() == self._versions

    @property
    def caches(self) -> tuple[TeacherCache, ...]:
        """Those of all tasks."""
        return tuple(cache for task_inputs in self.inputs_of.values() for cache in task_inputs.caches.values())

    @property
    def teachers(self) -> dict[str, nn.Module]:
        """The teachers of all tasks by name."""
        return {name: each.module for inputs in self.inputs_of.values() for name, each in inputs.teachers.items()}

    def run(self, start: int) -> Iterator[StepDone]:
        """Do the steps from `start` (how many are done already) to the end, one at a time.

        Raises:
            FindingError: KD501 where a loss or the gradient is not finite; the weights are those before that step.
        """
        self.trainable.train()
        self.spoilt = not_finite(self.trainable) if start == 0 and not self.backend.divided else None
        with nullcontext() if self.backend.hooks_gradients else self.embeddings:
            for step in range(start, self.total_steps):
                yield self._step(step, first=step == start and len(self.inputs_of) == 1)

    def _step(self, step: int, *, first: bool) -> StepDone:
        began = time.perf_counter()
        self._finishing, self._versions = False, self.trainable.versions()
        if not (self.trainable.training and self.trainable.student.training):
            self.trainable.train()
        self._begin(step)
        drawn = self._draw(step)
        counts = [Counted(each.task, each.units) for each in drawn]
        everywhere = self._everywhere(counts)
        units, of_tasks = total(each.units for each in everywhere), self.draws.shares(step)
        shares = Shares(counts, self.stage.training.normalize, everywhere=everywhere, of_tasks=of_tasks)
        self.optimization.set_rates(step)
        teacher_features, whole = over_whole_step(self, step, drawn, shares.of_tasks)
        of_step = DrawnStep(number=step, drawn=drawn, shares=shares, teacher_features=teacher_features, whole=whole)
        accumulator = self._one_by_one(of_step) if self.lanes is None else self._in_parallel(of_step, self.lanes)
        if not accumulator.counts:
            # The backward pass served only the collectives of other ranks. Optimizers treat a zero gradient unlike none:
            # they would decay weights and moments.
            self.optimization.optimizer.zero_grad(set_to_none=True)
        if first:
            self.unused = tuple(self.trainable.without_gradient())
        figures = self._finish(step, drawn, shares, accumulator)
        return StepDone(
            stage=self.stage.name,
            step=step + 1,
            epoch=self.draws.epoch_of(step),
            loss=figures.loss,
            terms=figures.terms,
            weights=accumulator.weights,
            lr=self.optimization.rates,
            grad_norm=figures.norm if math.isfinite(figures.norm) else None,  # None: left out by the scaler
            seconds=time.perf_counter() - began,
            rows=int(units["rows"]),
            tokens=int(units["tokens"]),
            micro_losses=figures.micro,
        )

    def _one_by_one(self, of_step: DrawnStep) -> Accumulator:
        accumulator = Accumulator()
        for micro, each in enumerate(of_step.drawn):
            # The last micro-batch alone reduces gradients over the ranks: it must be the last one on every rank.
            with self.backend.accumulate(self.trainable, last=micro == len(of_step.drawn) - 1):
                work = partial(self._weighted_loss, of_step, micro, of_step.teacher_features[micro])
                loss, entries = self.backend.compute(self.trainable, work)
                self._backward(loss, each.task, self.trainable)
            accumulator.entries.append(entries)
        return accumulator

    def _in_parallel(self, of_step: DrawnStep, lanes: Lanes) -> Accumulator:
        """Run the teachers with all threads, then the student in lanes."""
        teacher_features = [
            of_step.teacher_features[micro] or self.teacher_features(of_step.number, micro, each)
            for micro, each in enumerate(of_step.drawn)
        ]
        # One place for each micro-batch: lanes end in any order, and sums must not depend on it.
        entries: list[list[LossEntry]] = [[] for _ in of_step.drawn]

        def work(lane: Lane, micro: int) -> None:
            loss, entries[micro] = self._weighted_loss(of_step, micro, teacher_features[micro], lane)
            self._backward(loss, of_step.drawn[micro].task, lane.trainable)

        lanes.work([each.size for each in of_step.drawn], work)
        return Accumulator(entries)

    def try_out(self, lane: Lane) -> str:
        """Why a lane cannot compute beside others; empty where it can."""
        first = self._draw(0)[0]
        teacher_features = self.teacher_features(0, 0, first)
        return lane.try_out(lambda: self.terms(0, 0, first, lane=lane, teacher_features=teacher_features))

    def _everywhere(self, counts: list[Counted]) -> list[Counted]:
        """The micro-batches of all ranks that have rows."""
        if self.backend.world == 1:
            return counts
        ranks = self.backend.process_group.collect([each.units for each in counts])
        # Micro-batch n is of the same task on every rank.
        found = (Counted(own.task, units) for there in ranks for own, units in zip(counts, there, strict=True))
        return [each for each in found if each.units["rows"]]

    def _begin(self, step: int) -> None:
        """Call the strategy before the first forward pass of a step."""
        objective, models = self.trainable.objective, dict[str, nn.Module]()
        if objective.changes_modules:
            for task_inputs in self.inputs_of.values():
                models |= _modules(task_inputs)
        reseed(self.seed, step, 0, self.backend.rank)
        with self.guard:
            objective.on_step_begin(step / self.total_steps, models)
        if objective.changes_modules:
            self.trainable.train()

    def _draw(self, step: int) -> list[MicroBatch]:
        """The batches of a step, which a strategy may replace by its own; not on the device yet."""
        drawn = []
        for draw in self.draws.of(step, self.backend.rank):
            task_inputs = self.inputs_of[draw.task]
            # The rows of an epoch may run out for some ranks, which must go through the step all the same.
            rows = draw.rows or [0]
            batches = task_inputs.loader.batches(rows, draw.epoch)
            drawn.append(
                MicroBatch(task=draw.task, task_inputs=task_inputs, rows=rows, batches=batches, empty=not draw.rows)
            )
        if not self.trainable.objective.makes_batches:
            return list(map(_counted, drawn))
        made = []
        for micro, each in enumerate(drawn):
            reseed(self.seed, step, micro, self.backend.rank)
            with self.guard:
                own = self.trainable.objective.make_batches(each.on_device, _modules(each.task_inputs))
            made.append(_counted(replace(each, batches=own)))
        self.trainable.train()
        return made

    def terms(
        self,
        step: int,
        micro: int,
        drawn: MicroBatch,
        *,
        lane: Lane | None = None,
        teacher_features: TeacherFeatures | None = None,
    ) -> tuple[dict[str, Term], Step]:
        """The losses of a micro-batch, and the features that they are made of."""
        at = self.at(step, micro, drawn, lane, teacher_features)
        with self.backend.autocast(), self.guard:
            return (self.trainable if lane is None else lane.trainable).objective(at), at

    def at(
        self, step: int, micro: int, drawn: MicroBatch, lane: Lane | None, teacher_features: TeacherFeatures | None
    ) -> Step:
        """The features of a micro-batch; what is random in them is a function of seed, step, micro-batch and rank."""
        task_inputs = drawn.task_inputs
        if teacher_features is None:
            teacher_features = self.teacher_features(step, micro, drawn)
        elif lane is None:
            reseed(self.seed, step, micro, self.backend.rank)
        student = task_inputs.student if lane is None else lane.students[drawn.task]
        if lane is not None:
            lane.draws.seed(seed_of(self.seed, step, micro, self.backend.rank))
        with self.backend.autocast():
            batch = drawn.on_device[student.name]
            student_features = student(batch)
        progress = step / self.total_steps
        return Step(
            student=student_features, teachers=teacher_features, task=drawn.task, batch=batch, progress=progress
        )

    def teacher_features(self, step: int, micro: int, drawn: MicroBatch) -> TeacherFeatures:
        """The features of the teachers for a micro-batch; seeds the generators first, for all that follows in it."""
        task_inputs = drawn.task_inputs
        reseed(self.seed, step, micro, self.backend.rank)
        # A strategy may use only the modules of a teacher, and none of its features.
        read = [name for name, teacher in task_inputs.teachers.items() if teacher.features]
        with self.backend.autocast():
            return {name: self.features_of(name, drawn) for name in read}

    def features_of(self, name: str, drawn: MicroBatch) -> Features:
        """The features of a teacher for a micro-batch, from its cache or computed now."""
        batch = drawn.on_device[name]
        if cache := drawn.task_inputs.caches.get(name):
            kept = cache(batch, drawn.rows, drawn.batches[name])
            if kept is not None:
                return kept
        teacher = drawn.task_inputs.teachers[name]
        with frozen(teacher.module):
            return teacher(batch)

    def _weighted_loss(
        self, of_step: DrawnStep, micro: int, teacher_features: TeacherFeatures | None, lane: Lane | None = None
    ) -> tuple[Tensor | None, list[LossEntry]]:
        """The weighted loss of a micro-batch as a part of the step's, None if there is none; and the terms in it."""
        drawn, shares = of_step.drawn[micro], of_step.shares
        parts, entries, left_out = [], [], False
        terms, at = self.terms(of_step.number, micro, drawn, lane=lane, teacher_features=teacher_features)
        for name, term in terms.items():
            value = term.loss.value if isinstance(term.loss, Mean) else term.loss
            share, counts = shares.of(term.loss, micro), shares.counts_anywhere(term.loss, micro)
            entries.append(LossEntry(name, value.detach(), term.weight, share, counts))
            if share.of_step:
                parts.append(_times(_times(value, share.of_step), term.weight))
            elif self.backend.world > 1 and value.isfinite():
                # Other ranks may have such rows, and wait in the backward pass for the gradients of this term.
                parts.append(value * 0)
            else:
                left_out = True
        if of_step.whole:
            objective = (self.trainable if lane is None else lane.trainable).objective
            with self.backend.autocast(), self.guard:
                views = objective.views(at)
            for name, view in views.items():
                whole = of_step.whole[name]
                share = NO_SHARE if drawn.empty else whole.share
                entries.append(LossEntry(name, whole.value, whole.weight, share, counts=True))
                parts.append(_times(_times(whole.surrogate(micro, view, objective), whole.of_step), whole.weight))
        if left_out and self.backend.world > 1:
            # NaN times 0 is NaN, so the term itself cannot be used.
            parts += _zeros(at.student)
        if len(parts) > 1 and len({part.dtype for part in parts}) == 1:
            return torch.stack(parts).sum(), entries
        return (sum(parts[1:], start=parts[0]) if parts else None), entries

    def _backward(self, loss: Tensor | None, task: str, trainable: TrainableModule) -> None:
        if loss is None:
            return
        if not loss.requires_grad:
            message = "the losses do not depend on the student: none of them has a gradient"
            raise FindingError(Finding("KD306", message, self.place(""), help="a loss detaches the teacher only"))
        # FSDP2 computes with parameters of its own, which are not those of the module.
        if task not in self._audited and not self.backend.divided:
            trainable.check_reached(loss, self.place(""))
        with self.backward_guard:
            self.backend.backward(loss)
        self._audited.add(task)

    def _finish(self, step: int, drawn: list[MicroBatch], shares: Shares, accumulator: Accumulator) -> Figures:
        """Clip, check, and take the step."""
        self._finishing = True
        limit = self.stage.training.max_grad_norm
        optimizer = self.optimization.optimizer
        student_only = limit is not None and limit.scope == "student"
        student, others = self.optimization.student, self.optimization.others
        clipped = student if student_only else student + others
        norms = [self.backend.clip(optimizer, clipped, None if limit is None else limit.value)]
        if student_only:  # what is not clipped must be finite all the same
            norms.append(self.backend.norm(others))
        figures, found = accumulator.read(*norms)
        # A scaled gradient may overflow: then the scaler skips the step and halves its scale.
        finite = math.isfinite(figures.loss) and (self.backend.scales or all(map(math.isfinite, found)))
        where: list[int] = []
        if self.backend.world > 1:
            own = [finite, figures.loss, figures.terms, figures.micro, [each.empty for each in drawn]]
            ranks = self.backend.process_group.collect(own)
            where = [rank for rank, (_, loss, *_) in enumerate(ranks) if not math.isfinite(loss)]
            finite, figures = all(each[0] for each in ranks), together(figures.norm, [each[1:] for each in ranks])
        if not finite:
            raise non_finite_error(self, step, drawn, shares, figures, where)
        with self.optimization.guard:
            taken = self.backend.step(optimizer)
        if not taken and self.backend.scaler_state()["scale"] < SMALLEST_SCALE:
            raise non_finite_error(self, step, drawn, shares, figures, where)
        optimizer.zero_grad(set_to_none=True)
        with self.guard:
            self.trainable.objective.on_step_end((step + 1) / self.total_steps)
        if self.trainable.works_on_models:
            self.trainable.train()
        self.backend.share_buffers(self.trainable)
        return figures


def _modules(task_inputs: TaskInputs) -> dict[str, nn.Module]:
    """The modules of the models by name."""
    return {runner.name: runner.module for runner in (task_inputs.student, *task_inputs.teachers.values())}


def _counted(drawn: MicroBatch) -> MicroBatch:
    own = drawn.task_inputs
    teachers = own.teachers.values()
    return replace(drawn, batches=counted(own.loader.task, drawn.batches, own.student, teachers))


def _zeros(features: Features) -> list[Tensor]:
    """Zeros that depend on all that is read of a model.

    A backward pass from them reaches the parameters that it reaches on the other ranks, which wait for it.
    """
    heads = (head for name in features for head in features.heads(name))
    tensors = (tensor for head in heads for tensor in (head.tensors if isinstance(head, Logits) else (head,)))
    sums = [each.sum() for each in tensors if isinstance(each, Tensor) and each.requires_grad]
    return [each * 0 for each in sums if each.isfinite()]


def _times(value: Tensor, factor: float) -> Tensor:
    return value if factor == 1 else value * factor
