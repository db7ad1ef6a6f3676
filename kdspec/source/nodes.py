"""A source text that diagnostics can quote, and the tree of nodes that it is parsed into."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from kdspec.diagnostics.diagnostic import Span
from kdspec.source.scalars import Scalar
from kdspec.source.secrets import covered
from kdspec.source.variables import Insertion


@dataclass(frozen=True)
class Source:
    """A text that diagnostics can quote, with the name that their spans carry.

    A text that is not `shown` has places, which are all that is told of it.
    """

    name: str
    text: str
    shown: bool = True

    @cached_property
    def _pieces(self) -> tuple[str, ...]:
        pieces = self.text.splitlines(keepends=True)
        ends_in_line = pieces and pieces[-1] == pieces[-1].splitlines()[0]
        return tuple(pieces) if ends_in_line else (*pieces, "")

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        return tuple(accumulate(map(len, self._pieces[:-1]), initial=0))

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """The lines that spans refer to, without line breaks; a text that ends in a line break has an empty last line."""
        return tuple("".join(piece.splitlines()) for piece in self._pieces)

    @cached_property
    def covered(self) -> tuple[str, ...]:
        """The lines with their secrets masked, as they may be shown; their lengths are unchanged."""
        return Source(self.name, covered(self.text)).lines

    def span(self, start: int, end: int) -> Span:
        """The span of a range of character offsets."""
        first, last = bisect_right(self._starts, start) - 1, bisect_right(self._starts, end) - 1
        return Span(self.name, first, start - self._starts[first], last, end - self._starts[last])

    def inside(self, span: Span, value: str, start: int, end: int) -> Span:
        """The span of the characters `start` to `end` of `value`, which is written at `span`.

        All of `span` if the text differs from the value because of escapes, substitutions or folded lines.
        """
        if span.line != span.end_line:
            return span
        written = self.lines[span.line][span.column : span.end_column]
        quoted = written[:1] in {"'", '"'} and written[1:-1] == value
        if not quoted and written != value:
            return span
        first = span.column + quoted
        return Span(span.file, span.line, first + min(start, len(value)), span.line, first + min(end, len(value)))


@dataclass(slots=True)
class ScalarNode:
    """A string, number, boolean or null. `plain` ones were written without quotes, so their text decides the type."""

    span: Span
    text: str
    value: Scalar
    plain: bool
    size: int = 1
    height: int = 1
    insertion: Insertion | None = None
    """What it was before the values of variables were put in."""


@dataclass(slots=True)
class ListNode:
    """A list; its items may be shared with other places through aliases."""

    span: Span
    items: list[Node]
    size: int = 1
    height: int = 1


@dataclass(slots=True)
class MappingNode:
    """A mapping with its merge keys resolved: the span and the value of each key."""

    span: Span
    items: dict[str | int, tuple[Span, Node]]
    size: int = 1
    height: int = 1


Node = ScalarNode | ListNode | MappingNode
