"""Encoded rows in flat arrays: lists of Python integers need about ten times the memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

Example = Mapping[str, Any]


class Packed(Sequence[Example]):
    """The rows with each column of integer lists stored as one array; `row[key]` returns a list again."""

    def __init__(self, examples: Sequence[Example]) -> None:
        keys = list(examples[0])
        self._rows = len(examples)
        self._columns = {key: _column([example[key] for example in examples]) for key in keys}

    def __len__(self) -> int:
        return self._rows

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self._rows))]
        return {key: column[index] for key, column in self._columns.items()}

    def take(self, rows: Sequence[int]) -> list[Example]:
        """These rows, faster than one by one."""
        columns = [
            column.take(rows) if isinstance(column, Lists) else [column[row] for row in rows]
            for column in self._columns.values()
        ]
        return [dict(zip(self._columns, values, strict=True)) for values in zip(*columns, strict=True)]

    def column(self, key: str) -> Sequence[Any]:
        """The value of each row: `Lists` for lists of integers; None for rows that have no such entry."""
        return self._columns.get(key, [None] * self._rows)

    def lengths(self, key: str) -> NDArray[np.int64] | None:
        """The length of each row's list; None if the column does not have lists of integers."""
        column = self._columns.get(key)
        return column.lengths if isinstance(column, Lists) else None


class Lists(Sequence[list[int]]):
    """A list of integers for each row."""

    def __init__(self, values: Sequence[list[int]]) -> None:
        self.lengths = np.fromiter(map(len, values), dtype=np.int64, count=len(values))
        self._ends = np.cumsum(self.lengths)
        flat = np.fromiter(chain.from_iterable(values), dtype=np.int64, count=int(self._ends[-1]))
        self.flat: NDArray[Any] = flat.astype(_narrowest(flat), copy=False)
        """The numbers of all rows, one row after another."""

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> list[int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[int]]: ...
    def __getitem__(self, index: int | slice) -> list[int] | list[list[int]]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        end, length = self._ends[index], self.lengths[index]
        found: list[int] = self.flat[end - length : end].tolist()
        return found

    def take(self, rows: Sequence[int]) -> list[list[int]]:
        """The lists of these rows."""
        at = np.asarray(rows, np.int64)
        lengths, starts = self.lengths[at], self._ends[at] - self.lengths[at]
        ends = np.cumsum(lengths)
        # The place of each number: the start of its row, and how far it is from there.
        places = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
        flat = self.flat[places].tolist()
        bounds = [0, *ends.tolist()]
        return [flat[start:end] for start, end in pairwise(bounds)]

    def __iter__(self) -> Iterator[list[int]]:
        return (self[number] for number in range(len(self)))


def first_difference(one: Sequence[Example], other: Sequence[Example], key: str, most: int) -> int | None:
    """The first row of which two readings have other lists in an entry; None for none.

    Rows that are not packed are compared one by one, at most `most` of them.
    """
    if isinstance(one, Packed) and isinstance(other, Packed) and len(one) == len(other):
        mine, theirs = one.column(key), other.column(key)
        if isinstance(mine, Lists) and isinstance(theirs, Lists):
            unequal = np.flatnonzero(mine.lengths != theirs.lengths)
            if not len(unequal):
                different = np.flatnonzero(mine.flat != theirs.flat)[:1]
                found = np.searchsorted(np.cumsum(mine.lengths), different, side="right")
                return int(found[0]) if len(found) else None
            return next(row for row in range(len(one)) if mine[row] != theirs[row])
    rows = range(min(len(one), len(other), most))
    return next((row for row in rows if one[row].get(key) != other[row].get(key)), None)


def packed(examples: Sequence[Example]) -> Sequence[Example]:
    """The same rows, packed if they are a plain list of dicts with the same keys."""
    if type(examples) is not list or not examples:
        return examples
    keys = examples[0].keys()
    return Packed(examples) if all(type(each) is dict and each.keys() == keys for each in examples) else examples


def _column(values: list[Any]) -> Sequence[Any]:
    """The values of a column, packed if they are lists of plain integers."""
    if not all(type(value) is list for value in values) or set(map(type, chain.from_iterable(values))) != {int}:
        return values
    try:
        return Lists(values)
    except OverflowError:
        return values


def _narrowest(numbers: NDArray[np.int64]) -> type[np.signedinteger[Any]]:
    low, high = int(numbers.min()), int(numbers.max())
    for dtype in (np.int8, np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return dtype
    return np.int64
