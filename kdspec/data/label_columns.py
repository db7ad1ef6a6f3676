"""The labels of rows, read from one column or from several."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator

from kdspec.api.component import Component, invalid_value
from kdspec.data import texts
from kdspec.data.label_names import NO_LABEL
from kdspec.data.numbers import advice, described, is_missing
from kdspec.diagnostics.fault import Fault

LabelColumns = Annotated[
    list[str],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | list[str]),
]
"""One column, or several; none for rows without labels."""


def refuse_empty(task: Component, labels: Sequence[str]) -> None:
    """Refuse a written list without a column; called when the parameters of a task are checked."""
    if not labels and "label" in task.model_fields_set:
        raise invalid_value("name a column; without `label` the rows have no labels", "label")


def _texts(value: Any) -> Any:
    """A mark or a list of them as a list of texts; a number is written without quotes too."""
    marks = value if isinstance(value, list) else [value]
    return [
        str(mark) if isinstance(mark, (int, float)) and not isinstance(mark, bool) else _stripped(mark)
        for mark in marks
    ]


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


MissingMarks = Annotated[list[str], BeforeValidator(_texts, json_schema_input_type=str | float | list[str | float])]
"""How rows write that they have no label: a text, or several."""


def has(rows: Any, split: str, column: str) -> bool:
    """Whether a split has labels in a column; `unlabelled` has none, nor has a split without the column."""
    return split != "unlabelled" and column in rows.column_names


def declared_names(splits: Mapping[str, Any], column: str) -> list[str] | None:
    """The names that the data set declares for the numbers in a column, or in the lists of a column; None without any."""
    for rows in splits.values():
        if column in rows.column_names:
            feature = rows.features[column]
            names = getattr(getattr(feature, "feature", feature), "names", None)
            return None if names is None else list(names)
    return None


def declared(value: Any, names: Sequence[str] | None) -> Any:
    """The name that the data set declares for a number; None for -1 and -100, which mean no label."""
    if names is None or not isinstance(value, int) or isinstance(value, bool):
        return value
    return names[value] if 0 <= value < len(names) else None if value in NO_LABEL else value


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
