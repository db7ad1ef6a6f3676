"""The reader of objects in JSON, one per line or in one array."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdspec.data.files.delimited import Columns
from kdspec.data.files.file_text import FileMistake, is_at_most, kind_of, text_of
from kdspec.diagnostics.diagnostic import closest, excerpt

_SMALL = 2**22
_HALF = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_SIMPLE = (bool, int, float, str, type(None))

_OTHER_KIND = "a value is of another kind than those before it"

HALF = "half of a character, as of a text that was cut within one"
"""What a surrogate without its other half is."""


def json_columns(file: Path, field: str | None) -> list[str] | None:
    """The keys of all rows; None if the file is too large to be read for them, or is invalid."""
    if not is_at_most(file, _SMALL):
        return None
    text = text_of(file)
    try:
        return list(_read(text, field, lambda _: True))
    except FileMistake:
        return None


def read_json(
    file: Path,
    field: str | None = None,
    reads: Callable[[str], bool] = lambda _: True,
    quotes: Callable[[str], bool] = lambda _: True,
) -> Columns:
    """Objects: one per line, or an array that is the whole file or, with `field`, the value of that key.

    A column whose values cannot stand in one column is a mistake, and left out if nothing `reads` it. Its name and its
    values are quoted in the error only if the file may be quoted.
    """
    return _read(text_of(file), field, reads, quotes)


def _read(
    text: str, field: str | None, reads: Callable[[str], bool], quotes: Callable[[str], bool] = lambda _: True
) -> Columns:
    if not text.strip():
        raise FileMistake("the file is empty")
    if field is None and not text.lstrip().startswith("["):
        lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
        return _columns(((number, parsed(line, number), line) for number, line in lines), "", reads, quotes)
    whole = parsed(text, 1)
    if field is not None:
        if not isinstance(whole, dict) or field not in whole:
            near = closest(field, whole) if isinstance(whole, dict) else None
            raise FileMistake(f"there is no key `{field}`", help=f"did you mean `{near}`?" if near else None)
        whole = whole[field]
    if not isinstance(whole, list):
        raise FileMistake(f"the value of `{field}` is {kind_of(whole)}, not a list")
    return _columns(((number, row, "") for number, row in enumerate(whole, 1)), "row ", reads, quotes)


def parsed(text: str, line: int) -> Any:
    """The value of JSON text that begins in this line of its file."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise FileMistake(
            f"not JSON: {error.msg[:1].lower()}{error.msg[1:]}", line + error.lineno - 1, error.colno
        ) from error
    except RecursionError as error:
        raise FileMistake("nested too deeply", line) from error
    except ValueError as error:  # an integer of thousands of digits
        raise FileMistake("a number has too many digits", line) from error


def _columns(
    rows: Iterable[tuple[int, Any, str]], unit: str, reads: Callable[[str], bool], quotes: Callable[[str], bool]
) -> Columns:
    """The columns of objects; missing values are None."""
    objects: list[Mapping[str, Any]] = []
    kinds: dict[str, str] = {}
    unfit: set[str] = set()
    for number, row, line in rows:
        before, at = (f"{unit}{number}: ", 0) if unit else ("", number)
        if not isinstance(row, dict):
            raise FileMistake(f"{before}{kind_of(row)} in place of an object", at)
        for name, value in row.items():
            if name in unfit or (problem := _problem(name, value, kinds)) is None:
                continue
            if not reads(name):
                unfit.add(name)
                continue
            column = _half_place(line, name) if HALF in problem else 0
            problem = problem if quotes(name) else f"a value has {HALF}" if HALF in problem else _OTHER_KIND
            help_ = "write a whole character or none there" if HALF in problem else "a column has values of one kind"
            raise FileMistake(before + problem, at, column, help_)
        objects.append(row)
    names = dict.fromkeys(name for row in objects for name in row if name not in unfit)
    return {name: [row.get(name) for row in objects] for name in names}


def _problem(path: str, value: Any, kinds: dict[str, str]) -> str | None:
    """Why a value does not fit what `kinds` has of earlier rows, and of its own list; None if it does."""
    kind = kind_of(value)
    if kind != "null" and kinds.setdefault(path, kind) != kind:
        shown = f", `{excerpt(str(value))}`," if "[]" in path else ""
        return f"`{excerpt(path)}` is {kind}{shown} here and {kinds[path]} in earlier rows"
    if isinstance(value, str):
        return f"`{excerpt(path)}` has {HALF}" if not value.isascii() and _HALF.search(value) else None
    if isinstance(value, list):
        return _problem_of_list(path, value, kinds)
    if isinstance(value, dict):
        inner = (_problem(f"{path}.{key}", part, kinds) for key, part in value.items())
        return next((problem for problem in inner if problem is not None), None)
    return None


def _problem_of_list(path: str, values: Sequence[Any], kinds: dict[str, str]) -> str | None:
    types = set(map(type, values))
    if len({kind_of(kind()) for kind in types if kind is not type(None)}) > 1:
        first: dict[str, Any] = {}
        for value in values:
            first.setdefault(kind_of(value), value)
        first.pop("null", None)
        shown = " and ".join(f"{kind}, `{excerpt(str(value))}`," for kind, value in list(first.items())[:2])
        return f"`{excerpt(path)}` has {shown} in one list"
    # Elements of one simple type are looked at once: a list of numbers may be long.
    simple = types <= set(_SIMPLE) and str not in types
    some: Iterator[Any] = iter(values[:1]) if simple and None not in values[:1] else iter(values)
    problems = (_problem(f"{path}[]", value, kinds) for value in some)
    return next((problem for problem in problems if problem is not None), None)


def _half_place(line: str, name: str) -> int:
    """The column of the first half of a character in the value of a key, in the text of an object; 0 if there is no text."""
    start = max(line.find(f'"{name}"'), 0)
    high: int | None = None
    for escape in _ESCAPE.finditer(line, start):
        code = int(escape[1], 16) if escape[1] else 0
        low = 0xDC00 <= code <= 0xDFFF
        if high is not None and not (low and escape.start() == high + len(r"\ud83d")):
            return high + 1
        if low and high is None:
            return escape.start() + 1
        high = escape.start() if 0xD800 <= code <= 0xDBFF else None
    return 0 if high is None else high + 1
