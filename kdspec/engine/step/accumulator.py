"""The losses of one optimizer step, collected on the device and read in one transfer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdspec.engine.step.normalization import Share


class LossEntry(NamedTuple):
    """The value of one term in one micro-batch."""

    term: str
    value: Tensor
    weight: float
    share: Share
    """The share of this micro-batch in the mean of its task and in the loss of the step."""
    counts: bool
    """Whether rows of any rank in this micro-batch contribute to the term."""


@dataclass(frozen=True)
class Figures:
    """The losses and the gradient norm of one optimizer step."""

    loss: float
    norm: float
    terms: dict[str, float]
    """The value of each term, unweighted: its mean over the micro-batches of its task."""
    micro: tuple[float, ...]
    """The weighted loss of each micro-batch on its own."""

    @property
    def bad_terms(self) -> list[str]:
        """The terms with a non-finite value."""
        return [name for name, value in self.terms.items() if not math.isfinite(value)]


@dataclass
class Accumulator:
    """The values of one optimizer step, by micro-batch, still on the device."""

    entries: list[list[LossEntry]] = field(default_factory=list)

    @property
    def counts(self) -> bool:
        """Whether any term of the step has rows on any rank."""
        return any(entry.counts for entries in self.entries for entry in entries)

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each term."""
        return {entry.term: entry.weight for entries in self.entries for entry in entries}

    def read(self, *more: Tensor) -> tuple[Figures, list[float]]:
        """Read all values, and those of `more`, in one transfer: the only synchronisation with the device in a step.

        The norm of the figures is the first of `more`.
        """
        counted = [entry.value for entries in self.entries for entry in entries if entry.share.of_step]
        values = _numbers([*counted, *more])
        extra = values[len(values) - len(more) :]
        following = iter(values)
        terms: dict[str, float] = {}
        micro, loss = [], 0.0
        for entries in self.entries:
            alone = 0.0
            for entry in entries:
                value = next(following) if entry.share.of_step else 0.0
                terms[entry.term] = terms.get(entry.term, 0.0) + value * entry.share.of_task
                loss += value * entry.share.of_step * entry.weight
                alone += value * entry.weight
            micro.append(alone)
        return Figures(loss, extra[0], terms, tuple(micro)), extra


def together(norm: float, ranks: Sequence[Sequence[Any]]) -> Figures:
    """The figures of the whole step from those of each rank: loss, terms, micro-batch losses, and which are empty.

    The micro-batches are in the order of a single process.
    """
    terms: dict[str, float] = {}
    for _, own, *_ in ranks:
        for name, value in own.items():
            terms[name] = terms.get(name, 0.0) + value
    micro = zip(*(zip(losses, empty, strict=True) for *_, losses, empty in ranks), strict=True)
    kept = tuple(loss for of_ranks in micro for loss, empty in of_ranks if not empty)
    return Figures(sum(loss for loss, *_ in ranks), norm, terms, kept)


def _numbers(values: Sequence[Tensor]) -> list[float]:
    # `stack` needs one type and device; float64 holds the values of every type exactly.
    if len({(value.dtype, value.device) for value in values}) > 1:
        device = values[-1].device
        values = [value.to(device=device, dtype=torch.float64) for value in values]
    numbers: list[float] = torch.stack(list(values)).tolist()
    return numbers
