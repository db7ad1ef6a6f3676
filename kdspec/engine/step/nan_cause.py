"""Where the first value that is not finite comes from, and what helps against that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from kdspec.api.working.logits import Logits

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdspec.api.plan.plan import StagePlan
    from kdspec.api.working.batch import Batch
    from kdspec.api.working.step import Features, Step, Term
    from kdspec.diagnostics.finding import SpecPath
    from kdspec.engine.processes.backend import Backend
    from kdspec.engine.step.embedding_gradients import InPlace
    from kdspec.engine.step.lanes.lane import Lane
    from kdspec.engine.step.lanes.lanes import Lanes
    from kdspec.engine.step.task_inputs import MicroBatch
    from kdspec.engine.step.trainable import TrainableModule

_LARGEST = MappingProxyType({"fp16": "numbers above 65,504", "bf16": "numbers above 3e38"})
_DIVERGED = 1e6
"""Outputs of a model that learns are smaller."""
UNHARMED = "the weights are those before this step, and the last checkpoint is unharmed"


class FailedLoop(Protocol):
    """The part of a training loop that a report on a non-finite step uses."""

    @property
    def stage(self) -> StagePlan:
        """The stage."""
        ...

    @property
    def backend(self) -> Backend:
        """Where it computes."""
        ...

    @property
    def trainable(self) -> TrainableModule:
        """The student with its objective."""
        ...

    @property
    def embeddings(self) -> InPlace:
        """The embedding gradients that bypass autograd."""
        ...

    @property
    def lanes(self) -> Lanes | None:
        """The lanes for micro-batches in parallel, if any."""
        ...

    @property
    def spoilt(self) -> str | None:
        """A weight that was not finite when the stage began."""
        ...

    @property
    def place(self) -> Callable[[str], SpecPath]:
        """Gives the place of a term in the spec."""
        ...

    @property
    def keep_batch(self) -> Callable[[int, list[MicroBatch], Mapping[str, float]], str]:
        """Saves the batch of a step; returns a sentence with the place."""
        ...

    def terms(
        self, step: int, micro: int, drawn: MicroBatch, *, lane: Lane | None = None
    ) -> tuple[dict[str, Term], Step]:
        """The terms of a micro-batch, and the features from which they are computed."""
        ...

    def features_of(self, name: str, drawn: MicroBatch) -> Features:
        """The features of a teacher for a micro-batch."""
        ...


@dataclass(frozen=True)
class Cause:
    """What is not finite before all else, and what helps."""

    help: str
    notes: tuple[str, ...] = ()
    at: SpecPath | None = None
    """Its place in the spec; None for that of the term."""
    state: str = UNHARMED
    """What this means for the weights."""


def cause_of(loop: FailedLoop, step: int, drawn: list[MicroBatch], bad: list[str], *, of_gradient: bool) -> Cause:
    """The cause on this process: a teacher, the student's weights, the data, a loss, or that training diverges.

    Args:
        loop: the training loop, before the optimizer's step.
        step: the number of the step, from 0.
        drawn: its micro-batches.
        bad: the terms that are not finite, or whose gradients are not.
        of_gradient: whether only the gradient is not finite.
    """
    # All of them, for sharded teachers compute only where all processes ask them.
    found = next(iter(list(_of_teachers(loop, drawn))), None)
    # Sharded weights are in parts, and a forward pass of the student is one of all processes.
    if found is None and not loop.backend.divided:
        found = _of_weights(loop) or _of_outputs(loop, step, drawn, bad, of_gradient=of_gradient)
    return found or _of_divergence(loop, step)


def _of_teachers(loop: FailedLoop, drawn: list[MicroBatch]) -> Iterator[Cause]:
    training = loop.stage.training
    precision = training.teacher_precision or training.precision
    wider = (
        f"set `teacher_precision: fp32`: {_LARGEST[precision]} overflow in `{precision}`"
        if precision in _LARGEST
        else ""
    )
    for each in drawn:
        for name, teacher in each.task_inputs.teachers.items():
            if not teacher.features:
                continue
            with loop.backend.autocast():
                said = tuple(nan_features(name, loop.features_of(name, each)))
            if not said:
                continue
            weight = None if loop.backend.divides_teachers else not_finite(teacher.module)
            if weight is not None:
                said += (f"the weight `{weight}` of teacher `{name}` is not finite",)
                other = f"give `{name}` other weights: stage `{loop.stage.name}` does not train it"
                help_ = (
                    f"{wider}; if that does not help, {other}"
                    if wider
                    else f"{other}, so no setting of the stage helps"
                )
            else:
                rows = (
                    f"see whether `{name}` is meant for rows such as those in the saved batch; its weights are finite"
                )
                help_ = wider or rows
            yield Cause(help_, said, ("models", name))


def _of_weights(loop: FailedLoop) -> Cause | None:
    name = loop.spoilt or not_finite(loop.trainable)
    if name is None:
        return None
    student, own = loop.stage.student, name.removeprefix("student.")
    of = f" of `{student}`" if own != name else ""
    if loop.spoilt:
        note = f"the weight `{own}`{of} is not finite from the start"
        help_ = f"give `{student}` other weights" if of else "look at how the loss or the projection initialises it"
        return Cause(help_, (note,), ("models", student) if of else None, "the weights of the start have it already")
    note = f"the weight `{own}`{of} has not been finite since an earlier step"
    help_ = "lower the learning rate or clip the gradient with `max_grad_norm`, and start again with `--restart`"
    return Cause(help_, (note,), state="a checkpoint after that step has the same weights")


def _of_outputs(
    loop: FailedLoop, step: int, drawn: list[MicroBatch], bad: list[str], *, of_gradient: bool
) -> Cause | None:
    """Inputs, labels or a loss at fault, where weights and teachers are not."""
    lane = None if loop.lanes is None else loop.lanes.first
    for micro, each in enumerate(drawn):
        inputs = tuple(_nan_inputs(each, labels=False))
        labels = tuple(_nan_inputs(each, labels=True)) if any("hard_labels" in name for name in bad) else ()
        _, at = loop.terms(step, micro, each, lane=lane)
        outputs = [value for name, value in at.student.items() if name != "labels"]
        outputs_are_finite = not any(_has_nan(value) or _overflows(value) for value in outputs)
        if not outputs_are_finite and not inputs:
            return None
        if noted := inputs or labels:
            help_ = "correct these rows in the data, or leave them out; the saved batch has their numbers"
            return Cause(help_, noted, ("tasks", each.task))
    precision = loop.stage.training.precision
    if of_gradient and precision == "fp16":
        return None
    if of_gradient:
        # Large weights may overflow in the backward pass; before the first step there has been no update.
        if step or not bad:
            return None
        help_ = f"the loss of `{bad[0]}` has no finite gradient here, as a root has none at 0: take another loss"
        return Cause(help_, ("the outputs of the models are finite",))
    if step and any(_largest(value) > _DIVERGED for _, value in at.student.items()):
        return None
    help_ = "look at the loss of the term and at its parameters, such as the temperature and the weight"
    return Cause(help_, ("the outputs of the models are finite",)) if bad else None


def _of_divergence(loop: FailedLoop, step: int) -> Cause:
    precision = loop.stage.training.precision
    if precision == "fp16":
        return Cause(f"set `precision: bf16` or `fp32`: {_LARGEST[precision]} overflow in `fp16`")
    if step == 0:
        help_ = (
            "no step has been made, so it is not the learning rate: look at the rows of the saved batch and the loss"
        )
        return Cause(help_)
    return Cause("lower the learning rate or clip the gradient with `max_grad_norm`")


def not_finite(module: nn.Module) -> str | None:
    """The first parameter with a NaN or an infinite number."""
    return next((name for name, value in module.named_parameters() if not bool(value.isfinite().all())), None)


def _nan_inputs(drawn: MicroBatch, *, labels: bool) -> Iterator[str]:
    """A sentence for each input of a model with a NaN; a NaN among labels may be one that is missing."""
    told = set[str]()
    for batch in drawn.batches.values():
        for name, value in batch.tensors.items():
            if name in told or ("label" in name) != labels or not _has_nan(value := _unmasked(value, batch)):
                continue
            told.add(name)
            rows = value.flatten(1).isnan().any(1) if value.dim() > 1 else value.isnan()
            where = [row for row, bad in zip(drawn.rows, rows.tolist(), strict=False) if bad]
            shown = ", ".join(map(str, where[:8])) + (f" and {len(where) - 8} more" if len(where) > 8 else "")
            yield f"`{name}` has NaN in the rows {shown}, counted from 0"


def _unmasked(value: Tensor, batch: Batch) -> Tensor:
    """The numbers that a mask of the batch does not leave out, such as the scores of candidates that a row has."""
    masks = (mask for name, mask in batch.tensors.items() if name.endswith("_mask") and mask.shape == value.shape)
    mask = next(masks, None)
    return value if mask is None or not value.is_floating_point() else value.masked_fill(mask == 0, 0.0)


def nan_features(name: str, features: Features | Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each feature of a teacher that has a NaN."""
    for feature, value in features.items():
        if _has_nan(value):
            yield f"`{feature}` of teacher `{name}` has NaN"
        elif _overflows(value):
            yield f"`{feature}` of teacher `{name}` has an infinite number"


def _has_nan(value: Any) -> bool:
    return any(tensor.is_floating_point() and bool(tensor.isnan().any()) for tensor in _tensors(value))


def _largest(value: Any) -> float:
    found = (tensor.abs().max().item() for tensor in _tensors(value) if tensor.is_floating_point() and tensor.numel())
    return max(found, default=0.0)


def _overflows(value: Any) -> bool:
    """Whether there is an infinite number; one below 0 may be a mask."""
    return any(tensor.is_floating_point() and bool(tensor.isposinf().any()) for tensor in _tensors(value))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Logits):
        yield from value.tensors
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, Iterable) and not isinstance(value, str):
        for item in value:
            yield from _tensors(item)
