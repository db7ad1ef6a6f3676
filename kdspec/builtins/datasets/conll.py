"""Data sets of tagged words in columns, one word per line."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.data.files.file_text import FileMistake, beginning, text_of
from kdspec.data.files.row_files import RowFiles, RowPlace, arrow, joined
from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.fault import Fault

ColumnIndex = Annotated[int, Field(ge=-10_000, le=10_000)]

_DOCUMENT = "-DOCSTART-"
_BLANKS = " \t\r"
_BETWEEN = re.compile("[ \t\r]+")
_HEAD = 2**16
_MARKS = MappingProxyType({"\t": "tabs", " ": "blanks", ",": "commas", ";": "semicolons", "|": "vertical bars"})
"""What columns are separated by, and its name."""

Sentence = list[tuple[int, list[str]]]
"""The number of each of its lines, counted from 1, with the columns."""


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

    def why_no_column(self, context: BuildContext, split: str, column: str) -> Fault | None:
        """That the first lines do not have the separator, and which one they do have."""
        if column != "tags" or not self.has_split(split):
            return None
        name, file = self._written(context, split)[0]
        lines = self._head(file)
        which = "no line" if all(len(self._fields(line)) == 1 for line in lines) else "not every line"
        separator = "a blank or a tab" if self.separator is None else f"the separator `{_in_quotes(self.separator)}`"
        mark = next((mark for mark in _MARKS if _parts_all(lines, mark)), None)
        help_ = None
        if mark is not None:
            fix = "remove `separator`" if mark == " " else f'write `separator: "{_in_quotes(mark)}"`'
            help_ = f"its lines have {_MARKS[mark]}: {fix}"
        at = (split, 0) if self.separator is None else ("separator",)
        return Fault("KD312", f"{which} of `{excerpt(name)}` has {separator}", at, help=help_)

    def place(self, context: BuildContext, split: str, row: Mapping[str, Any], item: int) -> str | None:
        """The line of a word in the first sentence with these words and tags."""
        for name, file in self._written(context, split):
            try:
                sentences = [*self._sentences(file)]
            except FileMistake:  # the file has changed since
                return None
            for sentence in sentences:
                tokens, tags = self._read_sentence(sentence)
                if tokens == row["tokens"] and tags == row.get("tags", tags):
                    return f"{excerpt(name)}:{sentence[item][0]}"
        return None

    def _written(self, context: BuildContext, split: str) -> list[tuple[str, Path]]:
        """The files of a split: as the spec names each, and where it is."""
        value = getattr(self, split)
        names = self.train if isinstance(value, float) else value
        return list(zip(names or (), self.files(context)[split], strict=True))

    def _names(self, file: Path) -> Collection[str] | None:
        lines = self._head(file)
        return None if not lines else ("tokens", "tags") if len(self._fields(lines[0])) > 1 else ("tokens",)

    def _head(self, file: Path) -> list[str]:
        """The first lines with words."""
        text, whole = beginning(file, _HEAD)
        lines = text.split("\n") if whole else text.split("\n")[:-1]
        return [line for each in lines if self._fields(line := each.removesuffix("\r"))]

    def _read(self, file: Path) -> dict[str, list[list[str]]]:
        sentences = list(self._sentences(file))
        if not sentences:
            raise FileMistake("the file has no words")
        tokens, tags = zip(*map(self._read_sentence, sentences), strict=True)
        has_tags = len(sentences[0][0][1]) > 1
        return {"tokens": [*tokens], "tags": [*tags]} if has_tags else {"tokens": [*tokens]}

    def _read_sentence(self, sentence: Sentence) -> tuple[list[str], list[str]]:
        """The words and the tags of a sentence."""
        return (
            [self._field(fields, "token", number) for number, fields in sentence],
            [self._field(fields, "tag", number) for number, fields in sentence],
        )

    def _sentences(self, file: Path) -> Iterator[Sentence]:
        sentence: Sentence = []
        columns = None
        for number, fields in self._lines(file):
            if fields:
                columns = columns or len(fields)
                if len(fields) != columns:
                    help_ = "check `separator`; a blank line ends a sentence"
                    raise FileMistake(f"{_columns(len(fields))}, and {columns} before", number, help=help_)
                sentence.append((number, fields))
            elif sentence:
                yield sentence
                sentence = []
        if sentence:
            yield sentence

    def _lines(self, file: Path) -> Iterator[tuple[int, list[str]]]:
        """Each line's number and fields; no fields for a line that ends a sentence."""
        for number, line in enumerate(text_of(file).split("\n"), 1):
            if self.comments is None or not line.startswith(self.comments):
                yield number, self._fields(line.removesuffix("\r"))

    def _fields(self, line: str) -> list[str]:
        if not line.strip(_BLANKS) or line.startswith(_DOCUMENT) or (self.comments and line.startswith(self.comments)):
            return []
        return _split(line, self.separator)

    def _field(self, fields: list[str], which: Literal["token", "tag"], number: int) -> str:
        place = self.token if which == "token" else self.tag
        if len(fields) == 1:
            return fields[0]
        if not -len(fields) <= place < len(fields):
            message = f"there is no column {place}: the line has {_columns(len(fields))}"
            raise FileMistake(message, number, help=f"columns are counted from 0; set `{which}`")
        return fields[place]


def _split(line: str, separator: str | None) -> list[str]:
    # Other blanks of Unicode, such as a no-break space, are characters of words.
    return _BETWEEN.split(line.strip(_BLANKS)) if separator is None else line.split(separator)


def _parts_all(lines: Sequence[str], mark: str) -> bool:
    """Whether the mark splits all lines into the same number of columns, more than one."""
    counts = {len(_split(line, None if mark == " " else mark)) for line in lines}
    return len(counts) == 1 and counts != {1}


def _in_quotes(separator: str) -> str:
    """A separator as YAML writes it in double quotes."""
    return json.dumps(separator)[1:-1]


def _columns(number: int) -> str:
    return "1 column" if number == 1 else f"{number} columns"


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The data set."""
    return [Conll]
