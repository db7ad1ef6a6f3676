"""Rows of one step cut into micro-batches of similar length, where that saves more padding than it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NEVER = np.iinfo(np.int64).max // 2
"""More than any cost, and still to be added to."""


@dataclass(frozen=True, kw_only=True)
class LengthSplit:
    """Cuts rows into pieces, a pure function of their lengths.

    With the rows sorted by length, longest first, of all ways to cut them that are allowed the one is taken that has
    the least padded tokens and `cost` for each piece together. With a `Mean` for each loss, normalised over the
    optimizer step, the gradient does not depend on the cuts.
    """

    lengths: NDArray[np.int64]
    """Tokens of each row by its number."""
    cost: int
    """How many tokens could be computed in the time that one more micro-batch takes."""
    tokens: int | None = None
    """How many tokens a piece may have, padding included; a longer row is alone."""
    lanes: int = 1
    """Among how many the rows are dealt, equally many tokens to each, before those of each are cut."""

    def pieces(self, rows: Sequence[int], most: int) -> list[list[int]]:
        """The rows in pieces of `most` rows or fewer, or of `tokens` tokens or fewer where that is set."""
        numbers = np.asarray(rows, dtype=np.int64)
        order = np.argsort(-self.lengths[numbers], kind="stable")
        numbers = numbers[order]
        shares = dealt(self.lengths[numbers].tolist(), self.lanes)
        return [piece for share in shares if share for piece in self._cut(numbers[share], most)]

    def _cut(self, numbers: NDArray[np.int64], most: int) -> list[list[int]]:
        ends = self._ends(self.lengths[numbers], len(numbers) if self.tokens is not None else most)
        return [numbers[first:end].tolist() for first, end in zip([0, *ends[:-1]], ends, strict=True)]

    def _ends(self, lengths: NDArray[np.int64], most: int) -> list[int]:
        """Where each piece of the sorted lengths ends: the shortest path over the places where it may be cut."""
        count = len(lengths)
        best = np.zeros(count + 1, dtype=np.int64)
        begin = np.zeros(count + 1, dtype=np.int64)
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
    """The numbers of things of these sizes for each of some lanes, that none has much more than another.

    The largest is dealt first, each to the lane that has least so far. Those of a lane are in their order.
    """
    shares: list[list[int]] = [[] for _ in range(lanes)]
    sums = [0] * lanes
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        lane = sums.index(min(sums))
        shares[lane].append(number)
        sums[lane] += max(sizes[number], 1)
    return [sorted(share) for share in shares]


def spread(pieces: list[list[int]], count: int) -> list[list[int]]:
    """The pieces as exactly `count` of them: the ones with most rows are halved, and empty ones follow at last."""
    pieces = [*pieces]
    while len(pieces) < count and pieces and len(widest := max(pieces, key=len)) > 1:
        at, half = pieces.index(widest), (len(widest) + 1) // 2
        pieces[at : at + 1] = [widest[:half], widest[half:]]
    return [*pieces, *([] for _ in range(count - len(pieces)))]
