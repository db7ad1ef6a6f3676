"""Sentences of tagged words, read from columns of a task's rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from kdspec.data import texts
from kdspec.data.label_columns import declared, has
from kdspec.data.label_names import written
from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.fault import Fault

FindWord = Callable[[str, int, int], str | None]
"""The place in its file of a word, given its split, its row and its number in the row, counted from 1; None: not known."""


def read_words(rows: Any, split: str, column: str, at: str) -> list[list[str]]:
    """The words of each row.

    Args:
        rows: the split's rows.
        split: its name.
        column: a column of lists.
        at: the task's parameter that names it.

    Raises:
        Fault: KD502 for a row without a list of words.
    """
    texts.check_column(rows, split, column, (at,))
    found = []
    for number, row in enumerate(rows[column][:], 1):
        if not isinstance(row, list) or not row:
            what = "an empty list" if row == [] else f"{_kind(row)}, not a list of words,"
            raise Fault(texts.CODE, f"row {number} of `{split}` has {what} in `{excerpt(column)}`", (at,), help=_HELP)
        for place, word in enumerate(row, 1):
            if word is None or isinstance(word, (list, dict, bytes)):
                message = f"word {place} in row {number} of `{split}` is {_kind(word)}"
                raise Fault(texts.CODE, message, (at,), help=_HELP)
        found.append([texts.as_text(word) for word in row])
    return found


def read_tags(
    rows: Any,
    split: str,
    column: str,
    at: str,
    words: Sequence[Sequence[str]],
    known: Sequence[str] | None = None,
    missing: Collection[str] = (),
    find: FindWord | None = None,
) -> list[list[str | None] | None]:
    """The tag of each word, None for a word without one; None for a row without tags.

    Args:
        rows: the split's rows.
        split: its name.
        column: a column of lists.
        at: the task's parameter that names it.
        words: the words of each row.
        known: the names that the data set declares for numbers.
        missing: marks for a word without a tag, besides -100.
        find: finds the place of a word in its file.

    Raises:
        Fault: KD502 for a missing or invalid tag, KD312 for a row with more or fewer tags than words.
    """
    if not has(rows, split, column):
        return [None] * len(rows)
    found: list[list[str | None] | None] = []
    for number, (row, of) in enumerate(zip(rows[column][:], words, strict=True), 1):
        if row is None or row == []:
            found.append(None)
            continue
        if not isinstance(row, list):
            message = f"row {number} of `{split}` has {_kind(row)}, not a list of tags, in `{excerpt(column)}`"
            raise Fault(texts.CODE, message, (at,), help=_HELP)
        if len(row) != len(of):
            message = f"row {number} of `{split}` has {_counted(of, 'word')} and {_counted(row, 'tag')}"
            raise Fault("KD312", message, (at,), help=_HELP)
        for place, tag in enumerate(row, 1):
            nested = isinstance(tag, (list, dict, bytes))
            if nested or written(tag) is None:
                what = f"{_kind(tag)} in place of a tag" if nested else "no tag"
                message = f"word {place} in row {number} of `{split}` has {what}"
                raise with_place(Fault(texts.CODE, message, (at,), help=_HELP), find and find(split, number, place))
        found.append([_name(tag, known, (*missing, _IGNORED)) for tag in row])
    return found


def with_place(fault: Fault, place: str | None) -> Fault:
    """The fault of a word, with its place in a file if that is known: as other mistakes in files have it."""
    if place is not None:
        fault.message = f"{place}: {fault.message}"
    return fault


_IGNORED = "-100"
"""How tokenised data sets write that a word does not count."""
_HELP = "rows and words are counted from 1"


def _name(tag: Any, names: Sequence[str] | None, missing: Collection[str]) -> str | None:
    """The name of a tag; for a number, its class name in the data set if there is one. None for a mark."""
    return written(declared(tag, names), missing)


def _kind(value: Any) -> str:
    return "nothing" if value is None else "a text" if isinstance(value, str) else f"a {type(value).__name__}"


def _counted(values: Sequence[Any], what: str) -> str:
    return f"1 {what}" if len(values) == 1 else f"{len(values)} {what}s"
