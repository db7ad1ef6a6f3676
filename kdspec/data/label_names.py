"""Label names: parsing, sorting, and the error for an unknown label."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from kdspec.data.columns import ColumnPlace
from kdspec.diagnostics.diagnostic import closest, excerpt
from kdspec.diagnostics.fault import Fault

_CODE = "KD312"
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)
_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.0)?", re.ASCII)
_MANY = 10


def _different(names: list[str]) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise PydanticCustomError("duplicate_label", "the label `{label}` is written twice", {"label": name})
    return names


LabelNames = Annotated[list[str], Field(min_length=2), AfterValidator(_different)]
"""Two or more different names."""


def written(value: Any) -> str | None:
    """A value as a spec writes it; None for a missing label: null, an empty text, NaN."""
    if value is None or value == "" or value != value:  # noqa: PLR0124 - only NaN, a missing number, differs from itself
        return None
    if isinstance(value, bool):
        return ("false", "true")[value]
    # A column of integers in which some are missing is often stored as one of floats.
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def ordered(names: Iterable[str]) -> list[str]:
    """Each name once: numbers by their value, before texts."""
    return sorted(set(names), key=_order)


def found_in(written: Iterable[str]) -> list[str]:
    """The different names among the labels of rows, `ordered`; of whole numbers only, `1` and `1.0` are one."""
    names = ordered(written)
    if not all(map(_WHOLE.fullmatch, names)):
        return names
    return list({name.removesuffix(".0"): name for name in reversed(names)}.values())[::-1]


def alike(names: Sequence[str]) -> Mapping[str, str]:
    """The name that each spelling means, if all names are different whole numbers: `1` and `1.0` are one. Else empty."""
    whole = [found[1] for name in names if (found := _WHOLE.fullmatch(name))]
    if len(set(whole)) < len(names):
        return {}
    return {spelling: name for value, name in zip(whole, names, strict=True) for spelling in (value, f"{value}.0")}


def at_least_two(names: Sequence[str], column: str, at: ColumnPlace) -> None:
    """Raise the fault of a `train` split with fewer than two labels."""
    if len(names) < 2:
        found = f"only the label `{excerpt(names[0])}`" if names else "no labels"
        raise Fault(_CODE, f"the column `{column}` of `train` has {found}", at)


def unknown(name: str, names: Sequence[str], split: str, row: int, at: ColumnPlace) -> Fault:
    """The fault of a row, counted from 1, with a label that is not among the names."""
    near = closest(name, names)
    known = ", ".join(f"`{excerpt(label)}`" for label in names[:_MANY])
    message = f"row {row} of `{split}` has the label `{excerpt(name)}`, which is not among {known}"
    return Fault(_CODE, message, at, help=f"did you mean `{near}`?" if near else "rows are counted from 1")


def _order(name: str) -> tuple[int, float, str]:
    if _NUMBER.fullmatch(name):
        return 0, float(name), name
    return 1, 0.0, name
