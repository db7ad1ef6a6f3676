"""The scalars of YAML 1.2's core schema: the type and value of plain text such as `1e-4`, `on` or `010`."""

from __future__ import annotations

import re
from types import MappingProxyType

Scalar = str | int | float | bool | None

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = MappingProxyType({"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False})
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)


class IntegerTooLargeError(Exception):
    """The text is an integer of more than 64 bits, which no setting needs and which overflows in libraries."""


def resolve(text: str) -> Scalar:
    """The value of a plain scalar. Raises `IntegerTooLargeError`."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    for pattern, base, skip in ((_INT, 10, 0), (_OCTAL, 8, 2), (_HEX, 16, 2)):
        if pattern.fullmatch(text):
            return _integer(text[skip:], base)
    if _FLOAT.fullmatch(text):
        # Python spells infinity and NaN without YAML's dot; all else is the same.
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _integer(digits: str, base: int) -> int:
    sign, digits = ("-", digits[1:]) if digits.startswith("-") else ("", digits.removeprefix("+"))
    digits = digits.lstrip("0") or "0"
    # int() takes quadratic time, and raises a ValueError of its own above 4,300 digits.
    if len(digits) > 22 or int(digits, base) >= 2**64:
        raise IntegerTooLargeError
    return int(sign + digits, base)
