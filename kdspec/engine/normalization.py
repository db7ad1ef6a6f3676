"""How a loss of one micro-batch enters the optimizer step: every row or token of the step counts the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from kdspec.ops.mean import Mean, Unit
from kdspec.plan import Feature

UNITS: tuple[Unit, ...] = ("rows", "labels", "labelled", "tokens", "pairs")


def count(batch: Mapping[str, Tensor], features: Mapping[str, Feature], labels: frozenset[str]) -> Tensor:
    """How many of each unit a micro-batch has, `(units,)`, from its inputs alone.

    A loss says which unit its count is proportional to, so its share of the step is known before the later
    micro-batches have been computed. Masks are those that the student's adaptor takes from the batch.
    """
    first = next(iter(batch.values()))
    rows = float(first.shape[0])
    mask = _of_batch(batch, features, "inputs_mask")
    if mask is None:
        length = float(first.shape[1]) if first.ndim > 1 else 1.0
        tokens, pairs = torch.tensor(rows * length), torch.tensor(rows * length * length)
    else:
        per_row = mask.to(torch.float64).flatten(1).sum(1)
        tokens, pairs = per_row.sum(), (per_row * per_row).sum()
    kept = _of_batch(batch, features, "logits_mask")
    target = next((batch[key] for key in sorted(labels) if key in batch), None)
    target = target if target is None or not target.is_floating_point() else None
    found = {
        "rows": torch.tensor(rows),
        "labels": torch.tensor(rows if target is None else float(target.numel())) if kept is None else kept.sum(),
        "labelled": torch.tensor(rows) if target is None else (target != -100).sum(),
        "tokens": tokens,
        "pairs": pairs,
    }
    return torch.stack([found[unit].to(device=first.device, dtype=torch.float64) for unit in UNITS])


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
    """

    def __init__(self, counts: Sequence[Tensor], total: Tensor, mode: Literal["step", "micro_batch"]) -> None:
        self.counts, self.total, self.mode = counts, total, mode

    def of(self, loss: Tensor | Mean, micro: int) -> Tensor:
        """What to add to the step's loss for a loss of micro-batch `micro`; summed over them it is the step's mean."""
        value = loss.value if isinstance(loss, Mean) else loss
        if self.mode == "micro_batch":
            return value / len(self.counts)
        if len(self.counts) == 1 and self.total is self.counts[0]:
            return value
        unit = UNITS.index(loss.per if isinstance(loss, Mean) else "rows")
        # Nothing of this unit in the whole step: the value is 0 then, and stays 0 with its gradient.
        share = self.counts[micro][unit] / self.total[unit].clamp(min=1)
        return value * share.to(value.dtype)
