"""Rows with any number of labels: lists, lists written as text, texts with a separator, and vectors of 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdspec.api.kinds.context import TaskContext
from kdspec.data import label_names
from kdspec.data.classes import classes
from kdspec.data.columns import ColumnPlace
from kdspec.data.label_columns import declared, declared_names, has
from kdspec.data.label_names import SUSPECT, is_mark, quoted
from kdspec.data.labels import suspects, written_lists
from kdspec.data.numbers import number
from kdspec.data.texts import CODE
from kdspec.diagnostics.diagnostic import excerpt, listed
from kdspec.diagnostics.fault import Fault

_SEPARATORS = (",", ";", "|", "/", "\t")
_HELP = "rows are counted from 1"

Items = list[Any]
"""What a row has in its list."""


@dataclass(frozen=True)
class LabelLists:
    """The labels of a task, and the rows of each split: for each label 1.0 or 0.0, NaN if it is not known."""

    names: tuple[str, ...]
    rows: Mapping[str, list[list[float]]]


@dataclass(frozen=True, kw_only=True)
class ListColumn:
    """A column of lists of labels, as the task describes it."""

    column: str
    at: ColumnPlace
    separator: str | None = None
    labels: Sequence[str] | None = None
    missing: Collection[str] = ()

    def read(self, splits: Mapping[str, Any], context: TaskContext) -> LabelLists:
        """The labels and the rows.

        Raises:
            Fault: KD502 for a row that is no list of different labels, KD312 for vectors without names, for an unknown
                label, and as `classes` does.
        """
        items = {split: self._items(rows, split) for split, rows in splits.items()}
        for split, of in items.items():
            if len(of) > 1 and all(row == [] for row in of):
                items[split] = [None] * len(of)
                message = (
                    f"no row of `{split}` has a label in `{self.column}`: they count as rows whose labels are not known"
                )
                context.tell(Fault(SUSPECT, message, self.at))
        known = declared_names(splits, self.column)
        length = self._vectors([row for of in items.values() for row in of if row is not None], known)
        if length is None:
            return self._of_lists(items, known, context)
        names = self._names(length, known, context)
        rows = {split: [_decisions(row, length) for row in of] for split, of in items.items()}
        train = {
            name for values in rows.get("train", ()) for name, value in zip(names, values, strict=True) if value == 1
        }
        suspects.without_rows(train, self.labels or (), context)
        return LabelLists(names, rows)

    def _items(self, rows: Any, split: str) -> list[Items | None]:
        """The items of each row; None for an unlabelled one."""
        if not has(rows, split, self.column):
            return [None] * len(rows)
        values = rows[self.column][:]
        found: list[Items | None] = []
        for row, value in enumerate(values, 1):
            items = self._split_up(value)
            if items is None and not self._is_missing(value):
                raise self._unreadable(value, row, split, values)
            if any(isinstance(item, (list, dict, bytes)) for item in items or ()):
                message = f"row {row} of `{split}` has a list within its list in `{self.column}`"
                raise Fault(CODE, message, self.at, help=_HELP)
            found.append(items)
        return found

    def _is_missing(self, value: Any) -> bool:
        return label_names.written(value, self.missing) is None if not isinstance(value, (list, dict, bytes)) else False

    def _split_up(self, value: Any) -> Items | None:
        """The items of a row; None if it has no list, or a mark for no labels."""
        if isinstance(value, list):
            return value
        if not isinstance(value, str):
            return None if self.separator is None or value is None or self._is_missing(value) else [value]
        text = value.strip()
        if text and is_mark(text, self.missing):
            return None
        if written_lists.is_written_list(text):
            items = written_lists.parsed(text)
            if items is not None or self.separator is None or set(text) & set("'\""):
                return items
        if self.separator is None:
            return None
        return [part for each in text.split(self.separator) if (part := each.strip())]

    def _unreadable(self, value: Any, row: int, split: str, values: Sequence[Any]) -> Fault:
        where = f"row {row} of `{split}` has"
        if not isinstance(value, str):
            message = f"{where} a {type(value).__name__} in `{self.column}`, not a list of labels"
            return Fault(CODE, message, self.at, help=_HELP)
        if written_lists.is_written_list(value):
            message = f"{where} a written list in `{self.column}` that cannot be read: `{excerpt(value.strip())}`"
            return Fault(CODE, message, self.at, help='write it as JSON: `["first", "second"]`, or `[]` for no label')
        message = f"{where} the string `{excerpt(value)}` in `{self.column}`, not a list of labels"
        return Fault(CODE, message, self.at, help=_advice([text for text in values if isinstance(text, str)]))

    def _vectors(self, rows: Sequence[Items], known: Sequence[str] | None) -> int | None:
        """The length of the lists if they are vectors, None if they are lists of labels."""
        length = written_lists.are_vectors(rows)
        if length is None:
            return None
        repeated = any(len(set(map(str, row))) < len(row) for row in rows)
        if known is not None and (len(known) != length or not repeated):
            return None
        return None if not repeated and {"0", "1"} <= {*(self.labels or ())} else length

    def _names(self, length: int, known: Sequence[str] | None, context: TaskContext) -> tuple[str, ...]:
        """The names of the places of the vectors."""
        what = f"the lists in `{self.column}` are vectors of {length} numbers, each 0 or 1"
        if self.labels is not None:
            if len(self.labels) != length:
                message = f"{what}, and `labels` has {len(self.labels)} names"
                raise Fault("KD312", message, ("labels",), help="write one name for each number, in their order")
            return tuple(self.labels)
        if known is not None:
            return tuple(known)
        head = next((head for head in context.heads if head.classes == length and head.labels), None)
        if head is None:
            names = ", ".join(f"label{place}" for place in range(1, min(length, 3) + 1)) + (", …" if length > 3 else "")
            help_ = f"write the {length} names in the order of the numbers: `labels: [{names}]`"
            raise Fault("KD312", f"{what}, and nothing names the {length} labels", self.at, help=help_)
        message = f"{what}: they have the names of `{head.model}`, {listed(head.labels)}"
        help_ = "if they are in another order, write `labels` in the order of the numbers"
        context.tell(Fault(SUSPECT, message, self.at, help=help_))
        return head.labels

    def _of_lists(
        self, items: Mapping[str, Sequence[Items | None]], known: Sequence[str] | None, context: TaskContext
    ) -> LabelLists:
        """Rows with the labels that they list."""
        self._refuse_fractions(items)
        written = {split: [self._texts(row, known) for row in of] for split, of in items.items()}
        for split, of in written.items():
            for place, texts in enumerate(of, 1):
                self._refuse_twice(texts or (), split, place)
        flat = {split: [text for row in of for text in row or ()] for split, of in written.items()}
        found = classes(flat, context, column=self.column, at=self.at, labels=self.labels, declared=known)
        numbers = {name: place for place, name in enumerate(found.names)}
        rows: dict[str, list[list[float]]] = {}
        for split, of in written.items():
            rows[split] = made = []
            for place, texts in enumerate(of, 1):
                names = [found.naming.name(split, text) for text in texts or ()]
                marked = [name for name in names if name is not None]
                self._refuse_twice(marked, split, place)
                none = texts is None or (texts and not marked)
                values = [math.nan if none else 0.0] * len(numbers)
                for name in marked:
                    if name not in numbers:
                        at = ("labels",) if self.labels is not None else self.at
                        raise label_names.unknown(name, found.names, split, place, at)
                    values[numbers[name]] = 1.0
                made.append(values)
        return LabelLists(found.names, rows)

    def _texts(self, row: Items | None, known: Sequence[str] | None) -> list[str] | None:
        """The labels of a row as a spec would write them; None for an unlabelled row, and one of marks alone."""
        if row is None:
            return None
        texts = [label_names.written(declared(item, known)) for item in row]
        found = [text for text in texts if text is not None and not is_mark(text, self.missing)]
        return None if not found and any(texts) else found

    def _refuse_twice(self, labels: Collection[str], split: str, row: int) -> None:
        seen = set[str]()
        for label in labels:
            if label in seen:
                message = f"row {row} of `{split}` has the label `{excerpt(label)}` twice in `{self.column}`"
                binary = all(number(each) in (0, 1) for each in labels)
                help_ = "a vector of 0 and 1 must be as long in every row" if binary else _HELP
                raise Fault(CODE, message, self.at, help=help_)
            seen.add(label)

    def _refuse_fractions(self, items: Mapping[str, Sequence[Items | None]]) -> None:
        """Raise the fault of lists of probabilities."""
        rows = [
            (split, place, row) for split, of in items.items() for place, row in enumerate(of, 1) if row is not None
        ]
        if len({len(row) for _, _, row in rows}) != 1:
            return
        for split, place, row in rows:
            values = [number(item) for item in row]
            if None in values or len(values) < 2:
                return
            fraction = next(
                (item for item, value in zip(row, values, strict=True) if value and not value.is_integer()), None
            )
            if fraction is not None:
                message = f"row {place} of `{split}` has a vector with `{fraction}` in `{self.column}`, neither 0 nor 1"
                raise Fault(CODE, message, self.at, help="a row has a label or not: write 1 or 0 for each")


def _decisions(row: Items | None, length: int) -> list[float]:
    values = None if row is None else written_lists.decisions(row)
    return [math.nan] * length if values is None else values


def _advice(texts: Sequence[str]) -> str:
    """What to write for a column of texts that are no lists."""
    for separator, parts in _parts(texts):
        if written_lists.decisions(parts) is not None and len(parts) > 1:
            return f"for vectors write `separator: {quoted(separator)}`, and `labels` with their {len(parts)} names"
    for separator, parts in _parts(texts):
        if separator != " " and written_lists.looks_like_names(parts):
            return f"write the separator of the labels: `separator: {quoted(separator)}`"
    return "write lists of labels, or the `separator` of labels in a text: with `separator: ';'` each of these is one label"


def _parts(texts: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The first text that each separator parts."""
    for separator in (*_SEPARATORS, " "):
        text = next((text for text in texts if separator in text.strip()), None)
        if text is not None:
            yield separator, text.strip().split(separator)
