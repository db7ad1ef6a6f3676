"""Sentences of tagged words, read from columns of a task's rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdspec.data import texts
from kdspec.data.label_columns import declared_names
from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.fault import Fault


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


def read_tags(rows: Any, split: str, column: str, at: str, words: Sequence[Sequence[str]]) -> list[list[str] | None]:
    """The tag of each word; None for a row without tags.

    Raises:
        Fault: KD502 for a missing or invalid tag, KD312 for a row with more or fewer tags than words.
    """
    if split == "unlabelled" or column not in rows.column_names:
        return [None] * len(rows)
    names = known_names(rows, column)
    found: list[list[str] | None] = []
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
            if tag in (None, "") or isinstance(tag, (list, dict, bytes)):
                what = "no tag" if tag in (None, "") else f"{_kind(tag)} in place of a tag"
                message = f"word {place} in row {number} of `{split}` has {what}"
                raise Fault(texts.CODE, message, (at,), help=_HELP)
        found.append([_name(tag, names) for tag in row])
    return found


def known_names(rows: Any, column: str) -> list[str] | None:
    """The data set's class names for the numbers in the lists of a column; None if it has none."""
    return declared_names({"": rows}, column)


_HELP = "rows and words are counted from 1"


def _name(tag: Any, names: Sequence[str] | None) -> str:
    """The name of a tag; for a number, its class name in the data set if there is one."""
    if names is not None and isinstance(tag, int) and 0 <= tag < len(names):
        return names[tag]
    return texts.as_text(tag)


def _kind(value: Any) -> str:
    return "nothing" if value is None else "a text" if isinstance(value, str) else f"a {type(value).__name__}"


def _counted(values: Sequence[Any], what: str) -> str:
    return f"1 {what}" if len(values) == 1 else f"{len(values)} {what}s"
