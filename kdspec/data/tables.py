"""Readers of data files into columns; errors have a line and a column."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdspec.diagnostics.diagnostic import closest, excerpt

Columns = dict[str, list[Any]]

_HEAD = 2**16
_SMALL = 2**22
_KINDS = ((bool, "a boolean"), ((int, float), "a number"), (str, "a text"), (list, "a list"), (dict, "an object"))


class FileMistake(Exception):  # noqa: N818 - the user's mistake, not an error of the program
    """An error in a file: message, line and column (counted from 1; 0 without a place in the text), and fix."""

    def __init__(self, message: str, line: int = 0, column: int = 0, help: str | None = None) -> None:  # noqa: A002 - as in a diagnostic
        super().__init__(message)
        self.message, self.line, self.column, self.help = message, line, column, help


def read_csv(file: Path, delimiter: str, *, quoting: bool, names: Sequence[str] | None = None) -> Columns:
    """All fields as texts. The first row has the names of the columns unless `names` is given.

    Without `quoting`, a quotation mark is a character like any other, and a row ends where its line does.
    """
    text = text_of(file)
    rows = _quoted(text, delimiter) if quoting else _plain(text, delimiter)
    header = list(names) if names is not None else next(rows, (0, None))[1]
    if header is None:
        raise FileMistake("the file is empty")
    _check_header(header)
    values = []
    for line, row in rows:
        if len(row) != len(header):
            fields = f"{len(row)} field{'' if len(row) == 1 else 's'} in a row, and {len(header)} columns"
            other = "quoting: false" if quoting else "quoting: true"
            raise FileMistake(fields, line, help=f"is `delimiter` right, or does the file need `{other}`?")
        values.append(row)
    return {name: [row[number] for row in values] for number, name in enumerate(header)}


def csv_columns(file: Path, delimiter: str, *, quoting: bool) -> list[str] | None:
    """The names in the first row; None if the first bytes of the file do not contain all of it."""
    try:
        with file.open("rb") as stream:
            start = stream.read(_HEAD)
    except OSError as error:
        raise _unreadable(error) from error
    text = start.decode("utf-8-sig", "replace")
    if len(start) == _HEAD:
        text = text.rpartition("\n")[0]
    rows = _quoted(text, delimiter) if quoting else _plain(text, delimiter)
    try:
        header = next(rows, (0, None))[1]
    except FileMistake:
        return None  # the run reports it, with the place
    if header is None and not start:
        raise FileMistake("the file is empty")
    if header is None or "\N{REPLACEMENT CHARACTER}" in "".join(header):
        return None
    _check_header(header)
    return header


def json_columns(file: Path, field: str | None) -> list[str] | None:
    """The keys of all rows; None if the file is too large to be read for them, or is invalid."""
    try:
        return list(read_json(file, field)) if file.stat().st_size <= _SMALL else None
    except OSError as error:
        raise _unreadable(error) from error
    except FileMistake:
        return None


def read_json(file: Path, field: str | None = None) -> Columns:
    """Objects: one per line, or an array that is the whole file or, with `field`, the value of that key."""
    text = text_of(file)
    if not text.strip():
        raise FileMistake("the file is empty")
    if field is None and not text.lstrip().startswith("["):
        lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
        return _columns(((number, parsed(line, number)) for number, line in lines), "")
    whole = parsed(text, 1)
    if field is not None:
        if not isinstance(whole, dict) or field not in whole:
            near = closest(field, whole) if isinstance(whole, dict) else None
            raise FileMistake(f"there is no key `{field}`", help=f"did you mean `{near}`?" if near else None)
        whole = whole[field]
    if not isinstance(whole, list):
        raise FileMistake(f"the value of `{field}` is {_kind(whole)}, not a list")
    return _columns(enumerate(whole, 1), "row ")


def _check_header(header: Sequence[str]) -> None:
    for name in header:
        if not name or header.count(name) > 1:
            raise FileMistake(f"two columns are named `{excerpt(name)}`" if name else "a column has no name", 1)


def _unreadable(error: OSError | ValueError) -> FileMistake:
    return FileMistake(f"the file cannot be read: {getattr(error, 'strerror', None) or error}")


def text_of(file: Path) -> str:
    """The whole file, decoded as UTF-8."""
    try:
        data = file.read_bytes()
    except (OSError, ValueError) as error:
        raise _unreadable(error) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        start = data.rfind(b"\n", 0, error.start) + 1
        column = len(data[start : error.start].decode("utf-8", "replace")) + 1
        raise FileMistake("this is not UTF-8", line, column, "save the file as UTF-8 text") from error


def _plain(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip("\r"):
            yield number, line.removesuffix("\r").split(delimiter)


def _quoted(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            message = "a quotation mark is never closed, or a field is too long"
            if "expected after" in str(error):
                message = "text follows a closing quotation mark"
            elif "new-line" in str(error):
                message = "a row contains a carriage return"
            raise FileMistake(
                message, line, help="a file with single quotation marks needs `quoting: false`"
            ) from error
        if row is None:
            return
        if row:
            yield line, row
        line = reader.line_num + 1


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


def _columns(rows: Iterable[tuple[int, Any]], unit: str) -> Columns:
    """The columns of objects; missing values are None."""
    objects: list[Mapping[str, Any]] = []
    kinds: dict[str, str] = {}
    for number, row in rows:
        place = (f"{unit}{number}: ", 0) if unit else ("", number)
        if not isinstance(row, dict):
            raise FileMistake(f"{place[0]}{_kind(row)} in place of an object", place[1])
        for name, value in row.items():
            kind = _kind(value)
            if kind != "null" and kinds.setdefault(name, kind) != kind:
                raise FileMistake(
                    f"{place[0]}`{excerpt(name)}` is {kind} here and {kinds[name]} in earlier rows", place[1]
                )
        objects.append(row)
    names = dict.fromkeys(name for row in objects for name in row)
    return {name: [row.get(name) for row in objects] for name in names}


def _kind(value: object) -> str:
    return next((kind for type_, kind in _KINDS if isinstance(value, type_)), "null")
