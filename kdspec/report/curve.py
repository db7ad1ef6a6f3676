"""A series of points as it comes from a log, kept in bounded memory: means of neighbours with their extremes."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MOST = 200
"""Points of a series that are kept one by one in any case."""
_ODD = 20
_LARGEST = 1e300
"""Larger numbers are no points: a range of them may not be finite."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Neighbouring points; `x` and `y` are their means."""

    points: int
    x: float
    y: float
    low: float
    """The smallest y."""
    high: float
    """The largest y."""
    first: float
    """The x of the first point."""
    last: float
    """The x of the last point."""


@dataclass(frozen=True, slots=True)
class Odd:
    """A point that is not finite, or too large to be drawn."""

    x: float
    y: float


class Curve:
    """A series of points in the order of x.

    The points are kept one by one as long as they are at most `2 * MOST`. Beyond that neighbours are joined, in groups of
    equal numbers of points that double as the series grows. The extremes of a group keep a single spike visible.
    """

    def __init__(self, points: Iterable[tuple[float, float]] = ()) -> None:
        self.ends: tuple[tuple[float, float], tuple[float, float]] | None = None
        """The first and the last finite point."""
        self.last: float | None = None
        """The last y, finite or not."""
        self.odd: list[Odd] = []
        """The first points that are not finite."""
        self._size = 1
        self._counts: array[int] = array("q")
        self._x, self._y, self._low, self._high, self._first, self._last = (array("d") for _ in range(6))
        for x, y in points:
            self.add(x, y)

    def __bool__(self) -> bool:
        """Whether there is a finite point."""
        return self.ends is not None

    def add(self, x: float, y: float) -> None:
        """Add the next point."""
        self.last = y
        if not -_LARGEST < x < _LARGEST:
            return
        if not -_LARGEST < y < _LARGEST:
            if len(self.odd) < _ODD:
                self.odd.append(Odd(x, y))
            return
        self.ends = ((x, y) if self.ends is None else self.ends[0], (x, y))
        counts = self._counts
        if not counts or counts[-1] >= self._size:
            if len(counts) >= 2 * MOST:
                self._put(_joined(self._groups(), 2))
                self._size *= 2
            self._append(Neighbours(1, x, y, y, y, x, x))
            return
        count = counts[-1] = counts[-1] + 1
        self._x[-1] += (x - self._x[-1]) / count
        self._y[-1] += (y - self._y[-1]) / count
        self._low[-1] = min(self._low[-1], y)
        self._high[-1] = max(self._high[-1], y)
        self._last[-1] = x

    def groups(self, most: int = MOST) -> list[Neighbours]:
        """The series as at most `most` groups; each is a single point if there are no more of them."""
        return list(_joined(self._groups(), -(-len(self._counts) // most) or 1))

    def _groups(self) -> Iterator[Neighbours]:
        columns = (self._counts, self._x, self._y, self._low, self._high, self._first, self._last)
        return (Neighbours(*values) for values in zip(*columns, strict=True))

    def _put(self, groups: Iterable[Neighbours]) -> None:
        kept = list(groups)
        for column in (self._counts, self._x, self._y, self._low, self._high, self._first, self._last):
            del column[:]
        for group in kept:
            self._append(group)

    def _append(self, group: Neighbours) -> None:
        self._counts.append(group.points)
        self._x.append(group.x)
        self._y.append(group.y)
        self._low.append(group.low)
        self._high.append(group.high)
        self._first.append(group.first)
        self._last.append(group.last)


def _joined(groups: Iterable[Neighbours], size: int) -> Iterator[Neighbours]:
    """Each `size` neighbours as one group."""
    every = list(groups)
    for some in (every[start : start + size] for start in range(0, len(every), size)):
        points = sum(group.points for group in some)
        yield Neighbours(
            points,
            sum(group.x * (group.points / points) for group in some),
            sum(group.y * (group.points / points) for group in some),
            min(group.low for group in some),
            max(group.high for group in some),
            some[0].first,
            some[-1].last,
        )
