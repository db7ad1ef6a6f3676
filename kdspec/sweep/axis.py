"""The options of a sweep: lists of values, ranges of numbers, and seeds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kdspec.diagnostics.diagnostic import DiagnosticError, excerpt
from kdspec.report.comparison.setting_table import equal
from kdspec.source.document import parse

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER})(?P<log>:log)?")
_WHOLE = re.compile(r"[-+]?\d+")
_SEED = re.compile(r"\d{1,18}")
_DIGITS = 4
"""Significant digits of a sampled number: what a person would write, and compare."""
MOST_SEEDS = 1000
OWN = ("name", "seed")
"""The settings that a sweep sets itself."""


class AxisError(Exception):
    """Raised for an option that cannot be used; the text is the reason."""


@dataclass(frozen=True)
class GridAxis:
    """A setting and its values, as `--set` takes them."""

    path: str
    texts: tuple[str, ...]
    values: tuple[Any, ...]
    """The same as data, by which values are compared."""


@dataclass(frozen=True)
class RangeAxis:
    """A setting and the range of its numbers."""

    path: str
    low: float
    high: float
    log: bool
    whole: bool
    """Whether it has whole numbers only."""
    text: str
    """The range as it was written."""

    def written(self, value: float) -> str:
        """A number of the range as a spec has it, with four significant digits."""
        if self.whole:
            return str(int(value))
        rounded = float(f"{value:.{_DIGITS}g}")
        return repr(min(max(rounded, self.low), self.high))


Axis = GridAxis | RangeAxis


def grid_axis(argument: str) -> GridAxis:
    """The axis of `PATH=VALUE,VALUE,...`. Raises `AxisError`."""
    path, text = _parts(argument, "PATH=VALUE,VALUE,...")
    whole = f"[{text}]"
    try:
        document = parse(whole, "--grid")
    except DiagnosticError as error:
        raise AxisError(f"`{excerpt(text)}` is not a list of values in YAML: {error.diagnostics[0].message}") from None
    values = document.data
    if not isinstance(values, list) or not values or "\n" in text:
        raise AxisError(f"`{excerpt(argument)}` has no values; write {path}=VALUE,VALUE,...")
    spans = [document.values[number,] for number in range(len(values))]
    texts = tuple(whole[span.column : span.end_column] for span in spans)
    for number, value in enumerate(values):
        if any(equal(value, other) for other in values[:number]):
            raise AxisError(f"`{excerpt(texts[number])}` is twice among the values of `{path}`")
    return GridAxis(path, texts, tuple(values))


def range_axis(argument: str) -> RangeAxis:
    """The axis of `PATH=LOW..HIGH` or `PATH=LOW..HIGH:log`. Raises `AxisError`."""
    path, text = _parts(argument, "PATH=LOW..HIGH")
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise AxisError(f"`{excerpt(text)}` is not a range: write LOW..HIGH, such as 1e-5..1e-3:log")
    low, high, log = float(found["low"]), float(found["high"]), found["log"] is not None
    if not low < high:
        raise AxisError(f"the low end of `{excerpt(text)}` is not below its high end")
    if log and low <= 0:
        raise AxisError(f"a range with `:log` is above 0, and `{excerpt(text)}` is not")
    whole = all(_WHOLE.fullmatch(found[end]) for end in ("low", "high"))
    return RangeAxis(path, low, high, log, whole, text.strip())


def seeds_of(text: str | None, first: int) -> tuple[int, ...]:
    """The seeds of `--seeds`: a number of them from `first` on, or a list. Without the option that of the spec.

    Raises `AxisError`.
    """
    if text is None:
        return (first,)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(_SEED.fullmatch(part) for part in parts):
        raise AxisError(f"`{excerpt(text)}` is neither a number of seeds nor a list such as 1,2,3")
    seeds = [int(part) for part in parts]
    if len(seeds) > 1 or "," in text:
        if len({*seeds}) < len(seeds):
            raise AxisError(f"a seed is twice in `{excerpt(text)}`")
        return tuple(seeds)
    if not 0 < seeds[0] <= MOST_SEEDS:
        raise AxisError(
            f"`{seeds[0]}` is no number of seeds from 1 to {MOST_SEEDS:,}; for one seed write `{seeds[0]},`"
        )
    return tuple(range(first, first + seeds[0]))


def distinct(axes: Iterable[Axis]) -> tuple[Axis, ...]:
    """The axes, which have different paths. Raises `AxisError`."""
    found = tuple(axes)
    paths = [axis.path for axis in found]
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise AxisError(f"`{path}` is given twice: name all its values at once")
        if path in OWN:
            own = "`--seeds` has the seeds" if path == "seed" else "a sweep names its runs itself"
            raise AxisError(f"`{path}` cannot be swept: {own}")
    return found


def _parts(argument: str, form: str) -> tuple[str, str]:
    path, equals, text = argument.partition("=")
    if not equals or not path.strip() or not text.strip():
        raise AxisError(f"`{excerpt(argument)}` is not of the form {form}")
    return path.strip(), text
