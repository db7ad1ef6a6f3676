"""Splits the rows of a step into micro-batches of similar length, where that saves more padding than it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NEVER = np.iinfo(np.int64).max // 2
"""More than any cost, and small enough that a sum does not overflow."""


@dataclass(frozen=True, kw_only=True)
class LengthSplit:
    """Splits rows into micro-batches, as a pure function of their lengths.

    The rows are sorted by length, longest first. Of all allowed splits of this order the one with the fewest padded
    tokens plus `cost` for each micro-batch is chosen. If every loss is a `Mean`, normalised over the optimizer step,
    the gradient does not depend on the split.
    """

    lengths: NDArray[np.int64]
    """Tokens of each row by its number."""
    cost: int
    """The cost of one more micro-batch, in tokens that could be computed in the same time."""
    tokens: int | None = None
    """Maximum tokens of a micro-batch, including padding; a longer row is alone."""
    lanes: int = 1
    """Number of lanes that first get rows with about equally many tokens; the rows of each lane are then split."""

    def split(self, rows: Sequence[int], most: int) -> list[list[int]]:
        """The micro-batches: of at most `most` rows, or of at most `tokens` tokens if that is set."""
        numbers = np.asarray(rows, dtype=np.int64)
        order = np.argsort(-self.lengths[numbers], kind="stable")
        numbers = numbers[order]
        shares = dealt(self.lengths[numbers].tolist(), self.lanes)
        return [micro for share in shares if share for micro in self._of_lane(numbers[share], most)]

    def _of_lane(self, numbers: NDArray[np.int64], most: int) -> list[list[int]]:
        ends = self._ends(self.lengths[numbers], len(numbers) if self.tokens is not None else most)
        return [numbers[first:end].tolist() for first, end in zip([0, *ends[:-1]], ends, strict=True)]

    def _ends(self, lengths: NDArray[np.int64], most: int) -> list[int]:
        """The ends of the micro-batches in the sorted lengths, by dynamic programming over the possible ends."""
        count = len(lengths)
        best = np.zeros(count + 1, dtype=np.int64)
        begin = np.zeros(count + 1, dtype=np.int64)
        # best[end] is the least cost of the first `end` rows. Lengths fall, so the first row of a micro-batch is its longest.
        for end in range(1, count + 1):
            low = max(0, end - most)
            rows = np.arange(end - low, 0, -1)
            padded = lengths[low:end] * rows
            costs = best[low:end] + padded + self.cost
            if self.tokens is not None:
                costs = np.where((padded > self.tokens) & (rows > 1), _NEVER, costs)
            chosen = int(np.argmin(costs))
            best[end], begin[end] = costs[chosen], low + chosen
        ends, end = [], count
        while end:
            ends.append(end)
            end = int(begin[end])
        return ends[::-1]


def dealt(sizes: Sequence[int], lanes: int) -> list[list[int]]:
    """Distribute items of these sizes over lanes, so that the sums are similar; returns the indices of each lane.

    Items go, largest first, to the lane with the smallest sum so far. The indices of a lane are sorted.
    """
    shares: list[list[int]] = [[] for _ in range(lanes)]
    sums = [0] * lanes
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        lane = sums.index(min(sums))
        shares[lane].append(number)
        sums[lane] += max(sizes[number], 1)
    return [sorted(share) for share in shares]


def spread(micro_batches: list[list[int]], count: int) -> list[list[int]]:
    """Exactly `count` micro-batches: those with the most rows are halved, then empty ones are added."""
    micro_batches = [*micro_batches]
    while len(micro_batches) < count and micro_batches and len(widest := max(micro_batches, key=len)) > 1:
        at, half = micro_batches.index(widest), (len(widest) + 1) // 2
        micro_batches[at : at + 1] = [widest[:half], widest[half:]]
    return [*micro_batches, *([] for _ in range(count - len(micro_batches)))]
