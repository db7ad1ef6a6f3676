"""Label names: how they are written, their order, and the error for an unknown label."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from kdspec.data.columns import ColumnPlace
from kdspec.diagnostics.diagnostic import closest, excerpt, listed
from kdspec.diagnostics.fault import Fault

SUSPECT = "KD316"
"""The code of warnings about labels that look wrong."""

NO_LABEL = (-1, -100)
"""The numbers that mean "no label" beside the numbers of classes, 0 to n - 1."""

_CODE = "KD312"
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]{0,17}))(?:\.0)?", re.ASCII)


def repeated(names: Sequence[str]) -> str | None:
    """The first name that occurs more than once."""
    times = Counter(names)
    return next((name for name in names if times[name] > 1), None)


def _different(names: list[str]) -> list[str]:
    if (twice := repeated(names)) is not None:
        raise PydanticCustomError("duplicate_label", "the label `{label}` is written twice", {"label": twice})
    return names


LabelNames = Annotated[list[str], Field(min_length=2), AfterValidator(_different)]
"""Two or more different names."""


def written(value: Any, missing: Collection[str] = ()) -> str | None:
    """A value as a spec writes it, without blanks around it.

    None for a missing label: null, an empty text, NaN, or one of the marks in `missing`.
    """
    if value is None or value != value:  # noqa: PLR0124 - only NaN, a missing number, differs from itself
        return None
    if isinstance(value, bool):
        return ("false", "true")[value]
    # A column of integers in which some are missing is often stored as one of floats.
    name = str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()
    return None if not name or is_mark(name, missing) else name


def is_mark(name: str, missing: Collection[str]) -> bool:
    """Whether it is one of the marks; `-1.0` is the mark `-1`."""
    return name in missing or (bool(missing) and whole(name) is not None and whole(name) in set(map(whole, missing)))


def whole(name: str) -> int | None:
    """The whole number that a label is: `2` and `2.0`. None for names, fractions, and codes such as `02`, `2.00` or `2e1`."""
    found = _WHOLE.fullmatch(name)
    return int(found[1]) if found else None


def number(name: str) -> float | None:
    """The number that a label is; None for a name."""
    return float(name) if _NUMBER.fullmatch(name) else None


def ordered(names: Iterable[str]) -> list[str]:
    """Each name once: numbers by their value, before texts."""
    return sorted(set(names), key=_order)


def at_least_two(names: Sequence[str], column: str, at: ColumnPlace) -> None:
    """Raise the fault of a `train` split with fewer than two labels."""
    if len(names) < 2:
        found = f"only the label `{excerpt(names[0])}`" if names else "no labels"
        help_ = "`labels` names the classes that no row has: `labels: [first, second]`"
        raise Fault(_CODE, f"the column `{column}` of `train` has {found}", at, help=help_)


def unknown(name: str, names: Sequence[str], split: str, row: int, at: ColumnPlace, word: int | None = None) -> Fault:
    """The fault of a row, counted from 1, with a label that is not among the names; of a `word` in it, with its tag."""
    near = closest(name, names)
    what = (
        f"row {row} of `{split}` has the label"
        if word is None
        else f"word {word} in row {row} of `{split}` has the tag"
    )
    message = f"{what} `{excerpt(name)}`, which is not among {listed(names)}"
    value, numbered = whole(name), all(whole(each) is not None for each in names)
    if value is not None and not numbered:
        help_ = f"the {len(names)} names can stand for the numbers 0 to {len(names) - 1}, if no label is another number"
    elif near is None and not any(map(str.isalpha, name)) and (value is None or value < 0):
        help_ = f"if it means that there is none, write `missing: {quoted(name)}`"
    elif near is None or numbered:
        help_ = f"{'rows' if word is None else 'rows and words'} are counted from 1"
    else:
        help_ = f"did you mean `{near}`?"
    return Fault(_CODE, message, at, help=help_)


def quoted(name: str) -> str:
    """A name as YAML text."""
    return "'" + name.replace("'", "''") + "'"


def _order(name: str) -> tuple[int, float, str]:
    value = number(name)
    return (1, 0.0, name) if value is None else (0, value, name)
