"""Data sets of tagged words in columns, one word per line."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.data.files.file_text import FileMistake, beginning, text_of
from kdspec.data.files.row_files import RowFiles, RowPlace, arrow, joined

ColumnIndex = Annotated[int, Field(ge=-10_000, le=10_000)]

_DOCUMENT = "-DOCSTART-"
_BLANKS = " \t\r"
_BETWEEN = re.compile("[ \t\r]+")
_HEAD = 2**16


class Conll(RowFiles):
    """Sentences of tagged words in CoNLL's format: one word a line with its tags in columns, a blank line between
    sentences.

    A row has the words in the column `tokens` and their tags in `tags`, which a file with a single column lacks. Lines
    of `-DOCSTART-` are skipped. A character may be a word, as in Chinese data. Files may be compressed: `.gz`, `.bz2`, `.xz`.
    """

    name = "conll"

    separator: str | None = Field(default=None, pattern=r"^[^\r\n]+$")
    r"""The separator of columns, such as `"\t"`. Default: any number of spaces and tabs."""
    token: ColumnIndex = 0
    """The column of the words, counted from 0; a negative number counts from the end."""
    tag: ColumnIndex = -1
    """The column of the tags, counted in the same way."""
    comments: str | None = Field(default=None, min_length=1)
    """The prefix of comment lines, such as `"# "`. Default: no comments."""

    def _table(self, files: list[Path], at: RowPlace) -> Any:
        return arrow(joined([self._read(file) for file in at.each(files)], at), at)

    def _names(self, file: Path) -> Collection[str] | None:
        text, whole = beginning(file, _HEAD)
        lines = text.split("\n") if whole else text.split("\n")[:-1]
        fields = next((found for line in lines if (found := self._fields(line.removesuffix("\r")))), None)
        return None if fields is None else ("tokens", "tags") if len(fields) > 1 else ("tokens",)

    def _read(self, file: Path) -> dict[str, list[list[str]]]:
        tokens: list[list[str]] = []
        tags: list[list[str]] = []
        columns = None
        ended = True
        for number, fields in self._lines(file):
            if not fields:
                ended = True
                continue
            columns = columns or len(fields)
            if len(fields) != columns:
                help_ = "check `separator`; a blank line ends a sentence"
                raise FileMistake(f"{_columns(len(fields))}, and {columns} before", number, help=help_)
            if ended:
                tokens.append([])
                tags.append([])
                ended = False
            tokens[-1].append(self._field(fields, "token", number))
            tags[-1].append(self._field(fields, "tag", number))
        if columns is None:
            raise FileMistake("the file has no words")
        return {"tokens": tokens, "tags": tags} if columns > 1 else {"tokens": tokens}

    def _lines(self, file: Path) -> Iterator[tuple[int, list[str]]]:
        """Each line's number and fields; no fields for a line that ends a sentence."""
        for number, line in enumerate(text_of(file).split("\n"), 1):
            if self.comments is None or not line.startswith(self.comments):
                yield number, self._fields(line.removesuffix("\r"))

    def _fields(self, line: str) -> list[str]:
        if not line.strip(_BLANKS) or line.startswith(_DOCUMENT) or (self.comments and line.startswith(self.comments)):
            return []
        # Other blanks of Unicode, such as a no-break space, are characters of words.
        return _BETWEEN.split(line.strip(_BLANKS)) if self.separator is None else line.split(self.separator)

    def _field(self, fields: list[str], which: Literal["token", "tag"], number: int) -> str:
        place = self.token if which == "token" else self.tag
        if len(fields) == 1:
            return fields[0]
        if not -len(fields) <= place < len(fields):
            message = f"there is no column {place}: the line has {_columns(len(fields))}"
            raise FileMistake(message, number, help=f"columns are counted from 0; set `{which}`")
        return fields[place]


def _columns(number: int) -> str:
    return "1 column" if number == 1 else f"{number} columns"


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The data set."""
    return [Conll]
