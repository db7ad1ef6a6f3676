"""How a loss of one micro-batch enters the optimizer step: every row or token of the step counts the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor

from kdspec.api.plan import Feature
from kdspec.ops.mean import Mean, Unit

UNITS: tuple[Unit, ...] = ("rows", "labels", "labelled", "tokens", "pairs")

UnitCounts = Mapping[Unit, float]
"""How many there are of each unit."""


def count(batch: Mapping[str, Tensor], features: Mapping[str, Feature], labels: frozenset[str]) -> dict[Unit, float]:
    """How many of each unit a micro-batch has, from its inputs alone.

    A loss says which unit its count is proportional to, so its share of the step is known before the later
    micro-batches have been computed. Masks are those that the student's adaptor takes from the batch. Reads the values
    of masks and labels, so that these are best on the CPU.
    """
    first = next(iter(batch.values()))
    rows = first.shape[0]
    mask = _of_batch(batch, features, "inputs_mask")
    if mask is None:
        length = first.shape[1] if first.ndim > 1 else 1
        tokens, pairs = rows * length, rows * length**2
    else:
        per_row = mask.flatten(1).count_nonzero(1).tolist()
        tokens, pairs = sum(per_row), sum(number**2 for number in per_row)
    target = next((batch[key] for key in sorted(labels) if key in batch), None)
    kept = _of_batch(batch, features, "logits_mask")
    classes = target is not None and not target.is_floating_point()
    kept_positions = target.numel() if classes and target is not None else rows
    if kept is not None and target is not None and target.ndim < kept.ndim:
        kept = None  # one label for all the positions of a row: they are the classes
    return {
        "rows": float(rows),
        "labels": float(kept_positions if kept is None else (kept != 0).sum()),
        "labelled": float(rows if target is None else (target != -100 if classes else ~target.isnan()).sum()),
        "tokens": float(tokens),
        "pairs": float(pairs),
    }


def total(counts: Sequence[UnitCounts]) -> dict[Unit, float]:
    """The sum over micro-batches."""
    return {unit: sum(each[unit] for each in counts) for unit in UNITS}


def _of_batch(batch: Mapping[str, Tensor], features: Mapping[str, Feature], name: str) -> Tensor | None:
    feature = features.get(name)
    if feature is None or any(path.root != "batch" for path in feature.paths):
        return None
    value = feature.paths[0].evaluate(output=None, batch=batch, modules={})
    assert isinstance(value, Tensor)
    return value


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
