"""Reads recorded scores of the first rows, before any row is built."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kdspec.data.numbers import number
from kdspec.data.ranking.ranked_rows import RankingColumns, written


def recorded_scores(columns: RankingColumns, first: Mapping[str, Sequence[Any]] | None) -> list[list[float]] | None:
    """The scores of each row, empty without any, NaN in place of a value that is not numeric; None for unknown columns.

    Args:
        columns: the columns of the task.
        first: rows by column, if they are known.
    """
    names = tuple(columns.recorded().values())
    if first is None or not names or any(name not in first for name in names):
        return None
    found = []
    for cells in zip(*(first[name] for name in names), strict=True):
        row = [score for cell in cells for score in _numbers(cell)]
        found.append([0.0, *(-margin for margin in row)] if row and columns.margins is not None else row)
    return found


def _numbers(cell: Any) -> list[float]:
    if isinstance(cell, str) and number(cell) is None:
        cell = written(cell) if cell.strip() else None
    items = list(cell) if isinstance(cell, (list, tuple)) else [] if cell is None else [cell]
    numbers = (number(item) for item in items)
    return [math.nan if each is None else each for each in numbers]
