"""The values of one entry of encoded rows, as flat arrays: a split may have many rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kdspec.api.working.task import Row
from kdspec.engine.batches.columnar import Lists, Packed

_MOST = 50_000

Flat = tuple[NDArray[Any], NDArray[np.int64]]
"""All numbers, one row after another, and how many each row has."""


def flat(rows: Sequence[Row], key: str) -> Flat | None:
    """The numbers of an entry; None if it has others in some row, rows lack it, or they are too many to read one by one."""
    if not isinstance(rows, Packed) and len(rows) > _MOST:
        return None
    if not len(rows) or key not in rows[0]:
        return None
    column = rows.column(key) if isinstance(rows, Packed) else [row.get(key) for row in rows]
    if isinstance(column, Lists):
        return column.flat, column.lengths
    parts = [_numbers(value) for value in column]
    found = [part for part in parts if part is not None]
    if not found or len(found) < len(parts):
        return None
    return np.concatenate(found), np.array([len(part) for part in found], dtype=np.int64)


def any_in_row(flags: NDArray[np.bool_], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For each row whether one of its flags is set."""
    sums = np.concatenate([[0], np.cumsum(flags)])
    ends = np.cumsum(lengths)
    found: NDArray[np.bool_] = sums[ends] > sums[ends - lengths]
    return found


def _numbers(value: Any) -> NDArray[Any] | None:
    """A number, nested lists of numbers or a tensor as a flat array."""
    if isinstance(value, Tensor):
        value = value.numpy()
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):  # ragged
        return None
    return array.reshape(-1) if array.dtype.kind in "iufb" else None
