"""A cell with a recorded answer: where it stands, what is wrong with it, and the value that it writes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kdspec.data.columns import ColumnPlace
from kdspec.data.labels.written_lists import parsed
from kdspec.data.numbers import described, number
from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.fault import Fault

CODE = "KD502"
COUNTED = "rows are counted from 1"


@dataclass(frozen=True)
class AnswerCell:
    """Where an answer stands."""

    split: str
    row: int
    """Counted from 0."""
    column: str
    at: ColumnPlace
    """The parameter that names the column."""
    word: int | None = None
    """The word of the row that it is about, counted from 0; None for the row."""
    columns: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The column of each class, where each has one."""

    def of_word(self, word: int) -> AnswerCell:
        """The answer for one of the words."""
        return replace(self, word=word)

    def of(self, name: str) -> AnswerCell:
        """The value of one of the classes, which may have a column of its own."""
        column = self.columns.get(name)
        return self if column is None else replace(self, column=column, at=(*self.at, name))

    @property
    def subject(self) -> str:
        """The row, and its word, for a message."""
        word = "" if self.word is None else f"word {self.word + 1} in "
        return f"{word}row {self.row + 1} of `{self.split}`"

    @property
    def shown(self) -> str:
        """The column, for a message."""
        return f"`{excerpt(self.column)}`"

    def fault(self, message: str, help_: str, *, code: str = CODE, notes: tuple[str, ...] = ()) -> Fault:
        """An error of this answer; the message follows the row."""
        counted = COUNTED if self.word is None else "rows and words are counted from 1"
        return Fault(code, f"{self.subject} {message}", self.at, help=f"{help_}; {counted}", notes=notes)


def is_missing(value: Any) -> bool:
    """Whether a cell has no answer: null, or a blank text."""
    return value is None or (isinstance(value, str) and value.strip() in ("", "null"))


def value_of(cell: AnswerCell, given: Any) -> Any:
    """The value that a cell has or, as a text, writes in JSON; a list may be written as Python or numpy write it.

    Raises:
        Fault: KD502 for a text that is not JSON.
    """
    if not isinstance(given, str) or number(given) is not None:
        return given
    try:
        return json.loads(given)
    except (ValueError, RecursionError) as error:
        items = parsed(given)
        if items is not None and given.lstrip()[:1] == "[":
            return items
        where = f": {error.msg[:1].lower()}{error.msg[1:]}" if isinstance(error, json.JSONDecodeError) else ""
        single = given.lstrip()[:1] == "{" and "'" in given and '"' not in given
        help_ = 'JSON has double quotes, `{"spam": 0.9}`: write the cell with `json.dumps`'
        if not single:
            help_ = 'write a list, `[0.9, 0.1]`, or an object, `{"spam": 0.9, "ham": 0.1}`'
        raise cell.fault(f"has {described(given)} in {cell.shown}, which is not JSON{where}", help_) from None


def finite(cell: AnswerCell, value: Any, what: str, of: str = "") -> float:
    """The finite number that a value is, or writes.

    Args:
        cell: where it stands.
        value: the value.
        what: what it should be, such as `a probability`.
        of: the class that it belongs to; "" for none.

    Raises:
        Fault: KD502 for NaN, an infinite number and what is no number.
    """
    made = number(value)
    if made is not None:
        return made
    whose = f" for `{excerpt(of)}`" if of else ""
    name = not_finite(value)
    if name is None:
        raise cell.fault(f"has {described(value)}{whose} in {cell.shown}, not {what}", "write a number")
    help_ = "write null in place of the whole answer of a row that has none"
    if name == "-Inf":
        help_ = "the logarithm of 0 is not finite: write a large negative number, such as -100"
    raise cell.fault(f"has {name}{whose} in {cell.shown}, not {what}", help_)


def not_finite(value: Any) -> str | None:
    """The name of NaN or of an infinite number, also as a text; None for any other value."""
    if isinstance(value, str) and value.strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
        value = float(value)
    if not isinstance(value, float) or math.isfinite(value):
        return None
    return "NaN" if math.isnan(value) else "Inf" if value > 0 else "-Inf"


def without_null(value: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a mapping that have a value: in a column of mappings each has the keys of all, with null."""
    return {str(name): item for name, item in value.items() if item is not None}
