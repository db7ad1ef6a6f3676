"""The labels of rows, read from one column or from several."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from kdspec.data import texts

LabelColumns = Annotated[
    list[str],
    Field(min_length=1),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | list[str]),
]
"""One column, or several."""


def has(rows: Any, split: str, column: str) -> bool:
    """Whether a split has labels in a column; `unlabelled` has none, nor has a split without the column."""
    return split != "unlabelled" and column in rows.column_names


def check(splits: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Raise the fault of a column that `train` lacks, if there are rows."""
    for number, column in enumerate(columns):
        if splits:
            texts.check_column(splits["train"], "train", column, ("label", number))


def numbers(
    rows: Any, split: str, columns: Sequence[str], read: Callable[[Any, str, int, str, int], float]
) -> list[list[float]]:
    """One number per column for each row; NaN if it is missing.

    Args:
        rows: the rows of the split.
        split: its name.
        columns: the columns.
        read: converts a value to a number, given the split, the row number, the column and the column number.
    """
    found = []
    for number, column in enumerate(columns):
        if has(rows, split, column):
            values = rows[column][:]
            found.append([read(value, split, row, column, number) for row, value in enumerate(values, 1)])
        else:
            found.append([math.nan] * len(rows))
    return [list(row) for row in zip(*found, strict=True)]
