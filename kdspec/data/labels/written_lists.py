"""Lists that are written in a text field, and lists that are vectors: a 0 or 1 for each of the labels."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from kdspec.data.numbers import decision, number

_ITEM = re.compile(
    r"""\s*(?: (?P<quoted> "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' ) | (?P<bare> [^\s,'"\[\](){}][^,'"\[\](){}]* ) )\s*(?P<comma>,?)""",
    re.VERBOSE | re.DOTALL,
)
_BRACKETS = MappingProxyType({"[": "]", "(": ")", "{": "}"})
_NOTHING = ("None", "null", "nan", "NaN")
_LONGEST_NAME = 40


def is_written_list(text: str) -> bool:
    """Whether a text is a list that a program wrote: `['plot', 'music']`, or `('plot',)` and `{'plot'}` with quotes."""
    text = text.strip()
    if text[:1] == "[":
        return True
    return text[:1] in _BRACKETS and text.endswith(_BRACKETS[text[:1]]) and bool(set("'\"") & set(text[1:3]))


def parsed(text: str) -> list[Any] | None:
    """The items of a written list, with the quotes of JSON or Python, with commas or, as numpy writes it, without.

    Items without quotes are numbers, true, false, or texts between commas. None if it is not such a list.
    """
    text = text.strip()
    if not text.endswith(_BRACKETS.get(text[:1], "\0")):
        return None
    inner, items, place = text[1:-1].strip(), list[Any](), 0
    while place < len(inner):
        found = _ITEM.match(inner, place)
        if found is None:
            return None
        made = [_unquoted(found["quoted"])] if found["quoted"] else _bare(found["bare"].strip(), commas="," in inner)
        if None in made:
            return None
        items += made
        place = found.end()
    return [item for item in items if item not in _NOTHING]


def _unquoted(text: str) -> str | None:
    try:
        value = json.loads(text) if text[0] == '"' else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return None
    return value if isinstance(value, str) else None


def _bare(text: str, *, commas: bool) -> list[Any]:
    """Numbers and booleans between blanks are several items, as in numpy's `[0 1 0]`; other words are one item."""
    parts = text.split()
    if not commas and all(decision(part) is not None or number(part) is not None for part in parts):
        return parts
    return [None] if text == "..." or "..." in parts else [text]


def decisions(items: Sequence[Any]) -> list[float] | None:
    """The numbers of a vector: 0 or 1, true or false, in any form; NaN for -1 or null. None if an item is another one."""
    found: list[float] = []
    for item in items:
        value = math.nan if item is None or number(item) == -1 else decision(item)
        if value is None:
            return None
        found.append(value)
    return found


def are_vectors(rows: Sequence[Sequence[Any] | None]) -> int | None:
    """The length of the lists if they are vectors: all of one length from 2, and of 0 and 1 alone. None if they are not."""
    lengths = {len(row) for row in rows if row is not None}
    if len(lengths) != 1 or min(lengths) < 2:
        return None
    values = [decisions(row) for row in rows if row is not None]
    if any(value is None for value in values):
        return None
    return lengths.pop()


def looks_like_names(parts: Sequence[str]) -> bool:
    """Whether the parts of a text are the names of labels: short, and of letters and digits."""
    return len(parts) > 1 and all(
        part.strip() and len(part) <= _LONGEST_NAME and not set("[](){}'\"") & set(part) for part in parts
    )
