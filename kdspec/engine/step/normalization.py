"""How a loss of one micro-batch enters the optimizer step: every row or token of the step counts the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from torch import Tensor

from kdspec.api.batch import Batch
from kdspec.api.plan import Feature
from kdspec.api.task import BuiltTask
from kdspec.engine.batches.loader import Batches
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.ops.mean import Mean, Unit

UNITS: tuple[Unit, ...] = ("rows", "labels", "labelled", "tokens", "pairs")

UnitCounts = Mapping[Unit, float]
"""How many there are of each unit."""


def counted(task: BuiltTask, batches: Batches, student: ModelRunner) -> Batches:
    """The batches with their units, as the task counts them in that of the student.

    Masks are those that the student's adaptor takes from the batch, so that a spec may name others than the task does.
    """
    batch = batches[student.name]
    units = task.units(batch, masks(batch, student.features))
    made = {id(each): replace(each, units=units) for each in batches.values()}
    return {model: made[id(each)] for model, each in batches.items()}


def masks(batch: Batch, features: Mapping[str, Feature]) -> dict[str, Tensor]:
    """The masks that an adaptor takes from a batch."""
    found = {}
    for name in ("inputs_mask", "logits_mask"):
        feature = features.get(name)
        if feature is None or any(path.root != "batch" for path in feature.paths):
            continue
        value = feature.paths[0].evaluate(output=None, batch=batch.named, modules={})
        assert isinstance(value, Tensor)
        found[name] = value
    return found


def total(counts: Sequence[UnitCounts]) -> dict[Unit, float]:
    """The sum over micro-batches."""
    return {unit: sum(each[unit] for each in counts) for unit in UNITS}


class Shares:
    """The part that each micro-batch has in its optimizer step, unit by unit.

    Args:
        counts: the units of each micro-batch of this rank.
        total: their sum over micro-batches and ranks.
        mode: `step`, or `micro_batch` for a mean of means, in which every micro-batch counts the same.
        parts: how many micro-batches all ranks have; those of this rank by default.
    """

    def __init__(
        self,
        counts: Sequence[UnitCounts],
        total: UnitCounts,
        mode: Literal["step", "micro_batch"],
        parts: int | None = None,
    ) -> None:
        self.counts, self.total, self.mode = counts, total, mode
        self.parts = len(counts) if parts is None else parts

    def of(self, loss: Tensor | Mean, micro: int) -> float:
        """By what to multiply the mean of micro-batch `micro`; summed over them it is then the step's mean.

        0 where the micro-batch has nothing that the loss is about. The mean of nothing may then be anything, a model's
        own loss is NaN, so it must be left out rather than multiplied.
        """
        unit = _unit(loss)
        here = self.counts[micro][unit]
        if not here:
            return 0.0
        return 1 / self.parts if self.mode == "micro_batch" else here / self.total[unit]

    def counts_anywhere(self, loss: Tensor | Mean) -> bool:
        """Whether any micro-batch of any rank has something that the loss is about."""
        return self.total[_unit(loss)] > 0


def _unit(loss: Tensor | Mean) -> Unit:
    return loss.per if isinstance(loss, Mean) else "rows"
