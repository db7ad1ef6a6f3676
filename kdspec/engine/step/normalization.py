"""The share of a micro-batch's loss in its optimizer step: every row or token of the step has equal weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from torch import Tensor

from kdspec.api.plan.plan import Feature
from kdspec.api.working.batch import Batch
from kdspec.api.working.task import BuiltTask
from kdspec.engine.batches.loader import Batches
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.ops.mean import Mean, Unit

UNITS: tuple[Unit, ...] = ("rows", "labels", "labelled", "tokens", "pairs")

UnitCounts = Mapping[Unit, float]
"""The number of each unit."""


def counted(task: BuiltTask, batches: Batches, student: ModelRunner) -> Batches:
    """The batches with their units, which the task counts in the student's batch.

    The masks are those of the student's adaptor, so that a spec may name other masks than the task.
    """
    batch = batches[student.name]
    units = task.units(batch, masks(batch, student.features))
    # By identity: models with equal readers share a batch, and must still share it afterwards.
    made = {id(each): replace(each, units=units) for each in batches.values()}
    return {model: made[id(each)] for model, each in batches.items()}


def masks(batch: Batch, features: Mapping[str, Feature]) -> dict[str, Tensor]:
    """The masks that an adaptor reads from a batch."""
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
    """The share of each micro-batch in its optimizer step, by unit.

    Args:
        counts: the units of each micro-batch of this rank.
        total: their sum over micro-batches and ranks.
        mode: `step`, or `micro_batch` for a mean of means, with equal weight for every micro-batch.
        parts: the number of micro-batches of all ranks; by default that of this rank.
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
        """The factor of the mean of micro-batch `micro`; the sum of the products is the mean of the step.

        0 if the micro-batch has no units of the loss. Its mean may then be NaN, as a model's own loss is, and 0 * NaN is
        NaN: leave the term out instead of multiplying it.
        """
        unit = _unit(loss)
        here = self.counts[micro][unit]
        if not here:
            return 0.0
        return 1 / self.parts if self.mode == "micro_batch" else here / self.total[unit]

    def counts_anywhere(self, loss: Tensor | Mean) -> bool:
        """Whether a micro-batch of any rank has units of the loss."""
        return self.total[_unit(loss)] > 0


def _unit(loss: Tensor | Mean) -> Unit:
    return loss.per if isinstance(loss, Mean) else "rows"
