"""The labels of rows, read from one column or from several."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from kdspec.data import texts
from kdspec.data.numbers import advice, described, is_missing
from kdspec.diagnostics.fault import Fault

LabelColumns = Annotated[
    list[str],
    Field(min_length=1),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | list[str]),
]
"""One column, or several."""

MissingMarks = Annotated[
    list[str],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | list[str]),
]
"""Texts that mean that a row has no label, or a single one."""


def has(rows: Any, split: str, column: str) -> bool:
    """Whether a split has labels in a column; `unlabelled` has none, nor has a split without the column."""
    return split != "unlabelled" and column in rows.column_names


def check(splits: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Raise the fault of a column that `train` lacks, if there are rows."""
    for number, column in enumerate(columns):
        if splits:
            texts.check_column(splits["train"], "train", column, ("label", number))


def numbers(
    rows: Any,
    split: str,
    columns: Sequence[str],
    read: Callable[[Any], float | None],
    *,
    otherwise: str,
    missing: Collection[str] = (),
) -> list[list[float]]:
    """One number per column for each row; NaN if it is missing.

    Args:
        rows: the rows of the split.
        split: its name.
        columns: the columns.
        read: converts a value to a number; None if that is impossible.
        otherwise: what such a value is not, for the message.
        missing: texts that mean that there is no number.

    Raises:
        Fault: KD502 for the first row whose value cannot be read.
    """
    found: list[list[float]] = []
    for number, column in enumerate(columns):
        if not has(rows, split, column):
            found.append([math.nan] * len(rows))
            continue
        found.append([])
        for row, value in enumerate(rows[column][:], 1):
            made = math.nan if is_missing(value, missing) else read(value)
            if made is None:
                message = f"row {row} of `{split}` has {described(value)} in `{column}`, {otherwise}"
                raise Fault(texts.CODE, message, ("label", number), help=advice(value))
            found[-1].append(made)
    return [list(row) for row in zip(*found, strict=True)]
