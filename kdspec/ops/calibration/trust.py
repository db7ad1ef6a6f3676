"""How far a confidence can be trusted: calibration errors, coverage at an accuracy, and what asking a teacher gives.

A confidence is the probability that a model gives to its answer. Results are shares from 0 to 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BINS = 15
_SLICE = 2**20


def row_scores(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each row the confidence, the Brier score and the negative log-likelihood of its label, in float64.

    The Brier score of a row is Σ_c (p_c - y_c)², from 0 to 2, with y = 1 for the label. Brier 1950, "Verification of
    Forecasts Expressed in Terms of Probability" (https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2).

    Args:
        logits: (n, classes).
        labels: int64 of shape (n,). Where one is no class, the last two are those of class 0.
    """
    logs = logits.double().log_softmax(-1)
    known = torch.where((labels >= 0) & (labels < logs.shape[-1]), labels, 0)[:, None]
    nll = -logs.gather(-1, known)[:, 0]
    shares = logs.exp()
    confidence = shares.amax(-1)
    brier = shares.scatter_add_(-1, known, -torch.ones_like(nll)[:, None]).square().sum(-1)
    return confidence, brier, nll


def decision_scores(logits: Tensor, labels: Tensor, given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each decision the confidence in it, the Brier score (p - y)² and the negative log-likelihood, in float64.

    Args:
        logits: of a label each, of any shape; their sigmoid is p.
        labels: 0 or 1, of the same shape; NaN where it is not known, and so are the last two.
        given: the decisions; the confidence is p where one is true, else 1 - p.
    """
    wide, truth = logits.double(), labels.double()
    shares = wide.sigmoid()
    nll = torch.nn.functional.softplus(wide) - truth * wide
    confidence = torch.where(given, wide, -wide).sigmoid()
    return confidence, (shares - truth).square(), nll


@dataclass(frozen=True)
class Ranked:
    """Answers by rising confidence."""

    confidence: NDArray[Any]
    right: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.confidence)

    @classmethod
    def of(cls, confidence: Tensor, right: Tensor) -> Ranked:
        """Sort the answers, in the memory of the confidences twice.

        Args:
            confidence: float32 or float64 of shape (n,), from 0 to 1 or NaN.
            right: bool of shape (n,).
        """
        values = confidence.detach().cpu().numpy()
        whole = np.int32 if values.dtype == np.float32 else np.int64
        # Bits of numbers from 0 to 1 have their order and two bits to spare: one number sorts both, in place. A NaN has
        # no order and is the last.
        numbers = np.abs(values)
        unknown = 0
        if math.isnan(numbers.max(initial=0)):
            unknown = int(np.isnan(numbers).sum())
            np.nan_to_num(numbers, copy=False, nan=1.5)
        keys = numbers.view(whole)
        keys <<= 1
        keys |= right.detach().cpu().numpy()
        keys.sort()
        found = np.empty(len(keys), bool)
        np.bitwise_and(keys, 1, out=found, casting="unsafe")
        keys >>= 1
        numbers[len(numbers) - unknown :] = np.nan
        return cls(numbers, found)

    @property
    def known(self) -> bool:
        """Whether each confidence is a number, and there is one."""
        return len(self) > 0 and not math.isnan(self.confidence[-1])

    def right_below(self, place: int) -> float:
        """How many of the answers before a place are right; of equal confidences all have their mean."""
        if place == len(self):
            return float(self.right.sum())
        value = self.confidence[place]
        first, last = (int(self.confidence.searchsorted(value, side)) for side in ("left", "right"))
        return float(self.right[:first].sum()) + (place - first) * float(self.right[first:last].mean())

    def mean_confidence(self, first: int, last: int) -> float:
        """That of the answers from one place to before another."""
        return float(self.confidence[first:last].mean(dtype=np.float64))


@dataclass(frozen=True)
class Bin:
    """Answers of similar confidence."""

    count: int
    confidence: float
    """The mean."""
    accuracy: float
    """The share that is right."""


def bins(ranked: Ranked) -> list[Bin | None]:
    """The answers in 15 bins of equal width, each with its upper edge; None for an empty one.

    The bins of Guo et al. 2017, "On Calibration of Modern Neural Networks" (https://arxiv.org/abs/1706.04599): a confidence
    c is in bin m if (m - 1)/15 < c ≤ m/15, and 0 is in the first.
    """
    edges = np.array([number / BINS for number in range(1, BINS)], ranked.confidence.dtype)
    ends = [0, *ranked.confidence.searchsorted(edges, "right").tolist(), len(ranked)]
    return [_bin(ranked, first, last) for first, last in itertools.pairwise(ends)]


def ece(ranked: Ranked) -> float:
    """The expected calibration error Σ_b n_b/n · |accuracy_b - confidence_b| over the bins of `bins`; NaN if a confidence is."""
    return _error(ranked, bins(ranked))


def ece_adaptive(ranked: Ranked) -> float:
    """The same over 15 bins of equally many answers, up to one, by rising confidence; NaN if a confidence is NaN.

    Answers of equal confidence all count as their mean, so that the order of the rows does not matter. With fewer answers
    than 15 each is a bin. Nixon et al. 2019, "Measuring Calibration in Deep Learning" (https://arxiv.org/abs/1904.01685),
    of the confidence in the answer.
    """
    small, more = divmod(len(ranked), BINS)
    ends = [number * small + min(number, more) for number in range(BINS + 1)]
    return _error(ranked, [_bin(ranked, first, last) for first, last in itertools.pairwise(ends)])


def coverage_at(ranked: Ranked, percent: int = 95) -> float:
    """The largest share of answers, taken by falling confidence, of which at least so many percent are right; else 0.

    Answers of equal confidence are taken together. NaN if a confidence is NaN. Geifman and El-Yaniv 2017, "Selective
    Classification for Deep Neural Networks" (https://arxiv.org/abs/1705.08500).
    """
    if not ranked.known:
        return math.nan
    largest = 0
    for taken, right in _by_falling_confidence(ranked):
        enough = taken[100 * right >= percent * taken]
        largest = max(largest, int(enough[-1]) if len(enough) else 0)
    return largest / len(ranked)


def coverage_curve(ranked: Ranked, points: int = 40) -> list[tuple[float, float, float]]:
    """About so many points: the share of answers of at least a confidence, the share of these that is right, the confidence."""
    count = len(ranked)
    found: list[tuple[float, float, float]] = []
    ends = sorted({round(count * (number + 1) / points) for number in range(points)} - {0})
    for end in ends if ranked.known else ():
        value = ranked.confidence[count - end]
        first = int(ranked.confidence.searchsorted(value, "left"))
        point = ((count - first) / count, float(ranked.right[first:].mean()), float(value))
        if not found or found[-1] != point:
            found.append(point)
    return found


@dataclass(frozen=True)
class Asked:
    """What it gives to ask another model where the confidence is below a limit."""

    below: float
    share: float
    """The share of rows that are asked."""
    rest: float
    """The share of right answers in the other rows, of the model alone; NaN without any."""
    together: float
    """The share of right answers of all rows, with those of the other model where it is asked."""


def asked(
    rows: Tensor, confidence: Tensor, right: Tensor, others_right: Tensor, limits: Sequence[float]
) -> list[Asked]:
    """What it gives to ask another model for rows whose lowest confidence is below each limit.

    Args:
        rows: int64 of shape (n,): the row of each answer; a row may have several.
        confidence: of each answer.
        right: bool: whether it is.
        others_right: bool: whether that of the other model is.
        limits: the confidences.
    """
    numbers, places = torch.unique(rows, return_inverse=True)
    lowest = torch.full((len(numbers),), math.inf, dtype=torch.float64)
    lowest = lowest.scatter_reduce(0, places, confidence.double(), "amin")
    found = []
    for limit in limits:
        hard = lowest < limit
        asks = hard[places]
        own = right[~asks].double()
        together = torch.where(asks, others_right, right).double().mean()
        found.append(Asked(limit, float(hard.double().mean()), float(own.mean()), float(together)))
    return found


def _bin(ranked: Ranked, first: int, last: int) -> Bin | None:
    if first == last:
        return None
    right = (ranked.right_below(last) - ranked.right_below(first)) if ranked.known else math.nan
    return Bin(last - first, ranked.mean_confidence(first, last), right / (last - first))


def _error(ranked: Ranked, found: Sequence[Bin | None]) -> float:
    if not ranked.known:
        return math.nan
    return sum(each.count / len(ranked) * abs(each.accuracy - each.confidence) for each in found if each is not None)


def _by_falling_confidence(ranked: Ranked) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each end of equal confidences how many answers are at least as confident, and how many of these are right."""
    count, right = len(ranked), 0
    for last in range(count, 0, -_SLICE):  # slice by slice: there may be many millions
        first = max(0, last - _SLICE)
        some = ranked.confidence[max(0, first - 1) : last][::-1]
        ends = some[1:] != some[:-1]
        ends = ends if first else np.append(ends, True)
        sums = right + ranked.right[first:last][::-1].cumsum(dtype=np.int64)
        taken = np.arange(count - last + 1, count - first + 1)
        right = int(sums[-1])
        yield taken[ends], sums[ends]
