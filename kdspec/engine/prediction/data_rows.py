"""The rows of a file that a model predicts: what its task reads of them, and all of their columns for the result."""

from __future__ import annotations

import datetime as dt
import decimal
import math
from collections.abc import Collection, Iterator
from typing import Any

from pydantic import PrivateAttr

from kdspec.api.kinds.context import DatasetContext
from kdspec.api.kinds.kinds import Dataset
from kdspec.data.columns import MANY_COLUMNS
from kdspec.data.texts import is_no_text
from kdspec.diagnostics.diagnostic import did_you_mean, excerpt, listed, near
from kdspec.diagnostics.fault import Fault

_ROWS_AT_ONCE = 1_000


class DataRows(Dataset):
    """The rows of a file, as a data set whose split `train` has no labels and no row without a text.

    Made by `of`; no spec can name it.
    """

    name = "predicted_rows"

    _rows: Any = PrivateAttr(None)
    _file: str = PrivateAttr("")
    _labels: frozenset[str] = PrivateAttr(frozenset())
    _kept: list[int] = PrivateAttr(default_factory=list)

    @classmethod
    def of(cls, rows: Any, file: str, labels: Collection[str] = ()) -> DataRows:
        """The rows of a `datasets.Dataset`.

        Args:
            rows: with all columns.
            file: its name in messages.
            labels: the columns of labels, which a task does not see.
        """
        made = cls()
        made._rows, made._file, made._labels = rows, file, frozenset(labels)
        return made

    @property
    def columns(self) -> list[str]:
        """The columns of the file."""
        return list(self._rows.column_names)

    @property
    def kept(self) -> list[int]:
        """The numbers of the rows that have texts, once a task has read them."""
        return self._kept

    def __len__(self) -> int:
        return len(self._rows)

    def has_split(self, split: str) -> bool:
        """Only `train`."""
        return split == "train"

    def build(self, context: DatasetContext) -> Any:
        """The rows with a text in each of the columns of texts, without the columns of labels.

        Raises:
            Fault: KD312 for a missing column of texts, KD502 if no row has texts.
        """
        names = self.columns
        for column in context.inputs:
            if column not in names:
                raise self._no_column(column)
        read = names if context.reads is None else [name for name in names if name in context.reads]
        without = set[int]()
        for column in context.inputs:
            without |= {row for row, value in enumerate(self._rows[column][:]) if is_no_text(value) or value == []}
        self._kept[:] = [row for row in range(len(self)) if row not in without]
        if not self._kept:
            texts = " and ".join(f"`{excerpt(column)}`" for column in context.inputs)
            message = f"no row of `{self._file}` has a text in {texts}"
            raise Fault("KD502", message, help="give the file whose rows the model is to read")
        rows = self._rows.select_columns([name for name in read if name not in self._labels])
        return {"train": rows.select(self._kept) if without else rows}

    def own(self) -> Iterator[dict[str, Any]]:
        """The columns of each row of the file as JSON values: a NaN is null, a date a text.

        Raises:
            Fault: KD502 for bytes.
        """
        for start in range(0, len(self), _ROWS_AT_ONCE):
            part = self._rows[start : start + _ROWS_AT_ONCE]
            for values in zip(*part.values(), strict=True):
                yield {name: self._plain(name, value) for name, value in zip(part, values, strict=True)}

    def _plain(self, column: str, value: Any) -> Any:
        match value:
            case float():
                return value if math.isfinite(value) else None
            case dict():
                return {key: self._plain(column, item) for key, item in value.items()}
            case list():
                return [self._plain(column, item) for item in value]
            case dt.date() | dt.time():
                return value.isoformat()
            case decimal.Decimal():
                return str(value)
            case None | str() | int():
                return value
        message = (
            f"the column `{excerpt(column)}` of `{self._file}` has a {type(value).__name__}, which JSON does not have"
        )
        raise Fault("KD502", message, help="remove this column from the file")

    def _no_column(self, column: str) -> Fault:
        names = self.columns
        shown = f"its columns are {listed(names, MANY_COLUMNS)}"
        question = did_you_mean(near(column, names))
        message = f"`{self._file}` has no column `{excerpt(column)}`, which the model reads"
        return Fault("KD312", message, help=f"{question} {shown}" if question else shown)
