"""The reader of delimited text files."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from kdspec.data.files.file_text import FileMistake, beginning, text_of
from kdspec.data.numbers import number
from kdspec.diagnostics.diagnostic import excerpt

Columns = dict[str, list[Any]]

_HEAD = 2**16
_FIELD = re.compile(r'"([^"]*(?:""[^"]*)*)"')
_FEW = 2
"""Rows that a value of a column has at least, if the column is one of classes."""


def read_csv(file: Path, delimiter: str, *, quoting: bool | None, names: Sequence[str] | None = None) -> Columns:
    """All fields as texts. The first row has the names of the columns unless `names` is given.

    A column without a name is passed over. Without `quoting`, a quotation mark is a character like any other, and a row
    ends where its line does; None means that only with a tab as the delimiter.
    """
    text = text_of(file)
    quoted = quotes(delimiter, quoting)
    rows = _quoted(text, delimiter) if quoted else _plain(text, delimiter)
    header = list(names) if names is not None else next(rows, (0, None))[1]
    if header is None:
        raise FileMistake("the file is empty")
    _check_header(header)
    values = []
    lines = []
    for line, row in rows:
        if len(row) != len(header):
            fields = f"{len(row)} field{'' if len(row) == 1 else 's'} in a row, and {len(header)} columns"
            raise FileMistake(fields, line, help=_advice(text, delimiter, quoted, header, row))
        values.append(row)
        lines.append(line)
    if quoting is None and not quoted:
        _refuse_quoted([*([] if names is not None else [(1, header)]), *zip(lines, values, strict=True)])
    if names is not None and values:
        _refuse_header(header, values, lines[0])
    return {name: [row[number] for row in values] for number, name in enumerate(header) if name.strip()}


def quotes(delimiter: str, quoting: bool | None) -> bool:  # noqa: FBT001 - as in the spec
    """Whether `"` encloses a field: as the spec says, or by the delimiter."""
    return delimiter != "\t" if quoting is None else quoting


def csv_columns(
    file: Path, delimiter: str, *, quoting: bool | None, names: Sequence[str] | None = None
) -> list[str] | None:
    """The names in the first row, or `names`; None if the first bytes of the file do not contain all of it."""
    text, whole = beginning(file, _HEAD)
    if not whole:
        text = text.rpartition("\n")[0]
    quoted = quotes(delimiter, quoting)
    rows = _quoted(text, delimiter) if quoted else _plain(text, delimiter)
    try:
        line, first = next(rows, (0, None))
    except FileMistake:
        return None  # the run reports it, with the place
    if first is None and whole and not text:
        raise FileMistake("the file is empty")
    if names is not None:
        if first is not None and len(first) == len(names):
            _refuse_header(names, [first], line)
        return [name for name in names if name.strip()]
    if first is None or "\N{REPLACEMENT CHARACTER}" in "".join(first):
        return None
    _check_header(first)
    if quoting is None and not quoted:
        _refuse_quoted([(line, first)])
    return [name for name in first if name.strip()]


def _check_header(header: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for place, name in enumerate(header, 1):
        if name.strip() and first.setdefault(name, place) != place:
            raise FileMistake(f"columns {first[name]} and {place} have the same name", 1)
    if not any(name.strip() for name in header):
        raise FileMistake("no column has a name", 1, help="write the names in `columns` if the file has no header")


def _refuse_header(names: Sequence[str], rows: Sequence[Sequence[str]], line: int) -> None:
    """Raise the mistake of a first row that has the names of the columns, though these are given."""
    first = [_folded(field) for field in rows[0]]
    same = [place for place, name in enumerate(names) if name.strip() and first[place] == _folded(name)]
    if sorted(first) == sorted(map(_folded, names)) or any(_is_no_value(place, rows) for place in same):
        written = set(first)
        shown = ", ".join(f"`{excerpt(name)}`" for name in names if _folded(name) in written)
        raise FileMistake(f"the first row is a header, with {shown}", line, help="remove `columns`")


def _is_no_value(place: int, rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first field of a column is unlike all others: these are numbers, or each is there several times."""
    others = Counter(row[place] for row in rows[1:])
    if not others or rows[0][place] in others:
        return False
    return all(number(value) is not None for value in others) or min(others.values()) >= _FEW


def _folded(name: str) -> str:
    return name.strip().casefold()


def _refuse_quoted(rows: Sequence[tuple[int, Sequence[str]]]) -> None:
    """Raise the mistake of fields in quotation marks, each with its inner ones doubled, where marks are characters."""
    marked = [(line, field) for line, row in rows for field in row if '"' in field]
    if not all(_FIELD.fullmatch(field) for _, field in marked):
        return
    doubled = next((line for line, field in marked if '""' in field[1:-1]), None)
    if doubled is None and rows and all(_FIELD.fullmatch(field) for field in rows[0][1]):
        doubled = rows[0][0]
    if doubled is not None:
        help_ = "write `quoting: true`, or `quoting: false` if the marks belong to the text"
        raise FileMistake("a field is quoted as in a CSV file", doubled, help=help_)


def _advice(text: str, delimiter: str, quoted: bool, header: Sequence[str], row: Sequence[str]) -> str:  # noqa: FBT001 - one of two readings
    """What to do about a row of another length; the other way to read quotation marks only if it reads all rows."""
    if _fits(text, delimiter, not quoted):
        return f"the file needs `quoting: {'false' if quoted else 'true'}`"
    if len(row) > len(header) and not any(row[len(header) :]):
        return "remove the delimiters at the end of the line"
    return "is `delimiter` right?"


def _fits(text: str, delimiter: str, quoted: bool) -> bool:  # noqa: FBT001 - one of two readings
    """Whether all rows have the same number of fields, more than one, in this reading of quotation marks."""
    try:
        lengths = {len(row) for _, row in (_quoted if quoted else _plain)(text, delimiter)}
    except FileMistake:
        return False
    return len(lengths) == 1 and lengths != {1}


def _plain(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    for line, row in enumerate(text.split("\n"), 1):
        if row.strip("\r"):
            yield line, row.removesuffix("\r").split(delimiter)


def _quoted(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each row with its line; with a tab, a field does not enclose what would be rows of their own."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    physical = text.split("\n") if delimiter == "\t" else []
    line = done = 1
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            if "field larger" in str(error):  # the limit is one of the process, and others may rely on it
                yield from islice(_unlimited(text, delimiter), done - 1, None)
                return
            raise _unclosed(str(error), line, text, delimiter) from error
        if row is None:
            return
        done += bool(row)
        if row:
            enclosed = physical[line - 1 : reader.line_num]
            if len(enclosed) > 1 and all(len(part.split(delimiter)) == len(row) for part in enclosed):
                message = f"quotation marks make one row of {len(enclosed)} lines"
                raise FileMistake(message, line, help="the file needs `quoting: false`")
            yield line, row
        line = reader.line_num + 1


def _unclosed(error: str, line: int, text: str, delimiter: str) -> FileMistake:
    message = "a quotation mark is never closed"
    if "expected after" in error:
        message = "text follows a closing quotation mark"
    elif "new-line" in error:
        message = "a row contains a carriage return"
    plain = _fits(text, delimiter, quoted=False)
    help_ = (
        "a file with single quotation marks needs `quoting: false`" if plain else 'within a quoted field, write `""`'
    )
    return FileMistake(message, line, help=help_)


def _unlimited(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """As `_quoted`, for fields of any length; several times slower."""
    plain = re.compile(rf"[^{re.escape(delimiter)}\r\n]*")
    place, line, size = 0, 1, len(text)
    while place < size:
        row: list[str] = []
        start, begin = line, place
        while True:
            found = _FIELD.match(text, place) if text.startswith('"', place) else plain.match(text, place)
            if found is None:
                raise _unclosed("", start, text, delimiter)
            quoted = text.startswith('"', place)
            row.append(found[1].replace('""', '"') if quoted else found[0])
            line += found[0].count("\n")
            place = found.end()
            if not text.startswith(delimiter, place):
                break
            place += 1
        end = re.compile(r"\r?\n|$").match(text, place)
        if end is None:
            raise _unclosed("new-line" if text.startswith("\r", place) else "expected after", start, text, delimiter)
        if place > begin:
            yield start, row
        place, line = end.end(), line + end[0].count("\n")
