"""Numbers, made of the values of a column where a task asks for them."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from types import MappingProxyType
from typing import Any

from kdspec.data.label_names import quoted
from kdspec.diagnostics.diagnostic import excerpt

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+", re.ASCII)
_MARK = 20
"""Characters of a text that may be a mark for "no number"."""
_TRUTH = MappingProxyType({"true": 1.0, "false": 0.0})


def number(value: Any) -> float | None:
    """The finite number that a value is or, as a text, writes: `3`, ` .5`, `+1e5`; None for any other value.

    A boolean is none, and neither are the texts `nan` and `inf`.
    """
    if isinstance(value, str):
        written = value.strip()
        value = float(written) if _NUMBER.fullmatch(written) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer of hundreds of digits
        return None


def decision(value: Any) -> float | None:
    """1.0 or 0.0 for a value that says yes or no: 1, 0, 1.0, 0.0, true, false, in any case; None for any other value."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and (truth := _TRUTH.get(value.strip().lower())) is not None:
        return truth
    found = number(value)
    return found if found in (0.0, 1.0) else None


def is_integer(text: str) -> bool:
    """Whether a text writes an integer, without a decimal point or an exponent."""
    return _INTEGER.fullmatch(text.strip()) is not None


def is_truth(text: str) -> bool:
    """Whether a text is `true` or `false`, in any case."""
    return text.strip().lower() in _TRUTH


def is_missing(value: Any, marks: Collection[str] = ()) -> bool:
    """Whether a number is missing: the value is null, NaN, a blank text, or one of the `marks`, as a text or as a number."""
    if value is None or value != value or (isinstance(value, str) and not value.strip()):  # noqa: PLR0124 - NaN
        return True
    if not marks:
        return False
    found = number(value)
    return str(value).strip() in marks or (found is not None and found in map(number, marks))


def described(value: Any) -> str:
    """A value that cannot be read, for a message."""
    return f"`{excerpt(str(value))}`" if isinstance(value, (str, bool, int, float)) else f"a {type(value).__name__}"


def advice(value: Any) -> str:
    """What to do about a value that cannot be read."""
    if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value.strip()):
        return "write the decimals after `.`; rows are counted from 1"
    if isinstance(value, str) and len(value.strip()) <= _MARK:
        return f"if it means that there is none, write `missing: {quoted(value.strip())}`"
    return "rows are counted from 1"
