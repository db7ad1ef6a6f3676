"""Lines of a source with marks below the labelled places, in the layout of rustc."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from kdspec.diagnostics.diagnostic import Label, Span
from kdspec.render.clean import cells_of, clean
from kdspec.source.document import Source

_FRAME = "blue"
_CUT = "…"
# The first and the last lines of a long span are shown.
_SHOWN = 4
# Characters of a line that are looked at on both sides of a mark, in widths of the screen. What is beyond is not shown,
# and looking at all of a long line for each of its errors takes time quadratic in its length.
_LOOKED_AT = 4


@dataclass(frozen=True)
class _Mark:
    """A label's part of one line, in characters of that line."""

    start: int
    end: int
    text: str
    primary: bool


@dataclass(frozen=True)
class _Block:
    """A label over several lines, drawn as a bracket to their left."""

    span: Span
    text: str
    primary: bool


class Snippet:
    """The labels of one source. `gutter` is the width of the line numbers, `width` that of the screen, in cells."""

    def __init__(
        self, source: Source, labels: Sequence[tuple[Label, bool]], style: str, gutter: int, width: int
    ) -> None:
        self.lines, self.style, self.gutter = source.covered, style, gutter
        self.block: _Block | None = None
        self.marks: dict[int, list[_Mark]] = {}
        # There is one bracket; the primary label takes precedence.
        for label, primary in sorted(labels, key=lambda item: not item[1]):
            self._add(self._trimmed(label.span), clean(label.text).replace("\n", " "), primary=primary)
        self.lane = 0 if self.block is None else 2
        self.width = max(24, width - gutter - 3 - self.lane)

    def render(self) -> Text:
        """The lines with their marks, without the arrow above them."""
        out = Text()
        previous: int | None = None
        for number in self._numbers():
            if previous is not None and number > previous + 2:
                out.append("...", _FRAME)
                out.append((" |" if self._inside(previous) else "") + "\n", self._colour(self._block_is_primary()))
            elif previous is not None and number == previous + 2:
                self._line(out, previous + 1, [])
            self._line(out, number, self.marks.get(number, []))
            previous = number
        return out

    def _add(self, span: Span, text: str, *, primary: bool) -> None:
        if span.line == span.end_line:
            self.marks.setdefault(span.line, []).append(_Mark(span.column, span.end_column, text, primary))
        elif self.block is None:
            self.block = _Block(span, text, primary)
        else:
            end = len(self.lines[span.line])
            self.marks.setdefault(span.line, []).append(_Mark(span.column, end, text, primary))

    def _trimmed(self, span: Span) -> Span:
        """The span clipped to the text, without trailing blanks of its last line."""
        line, end_line = (min(max(n, 0), len(self.lines) - 1) for n in (span.line, span.end_line))
        column = min(max(span.column, 0), len(self.lines[line]))
        end_column = min(max(span.end_column, 0), len(self.lines[end_line])) if span.end_line == end_line else None
        while end_line > line and not self.lines[end_line][:end_column].strip():
            end_line, end_column = end_line - 1, None
        if end_column is None:
            end_column = len(self.lines[end_line].rstrip())
        if end_line < line or (end_line == line and end_column < column):
            end_line, end_column = line, column
        return Span(span.file, line, column, end_line, end_column)

    def _numbers(self) -> list[int]:
        numbers = set(self.marks)
        if self.block is not None:
            first, last = self.block.span.line, self.block.span.end_line
            inner = range(first, last + 1)
            numbers |= set(inner if last - first < _SHOWN else [*inner[:2], *inner[-2:]])
        return sorted(numbers)

    def _inside(self, number: int) -> bool:
        return self.block is not None and self.block.span.line <= number < self.block.span.end_line

    def _block_is_primary(self) -> bool:
        return self.block is not None and self.block.primary

    def _colour(self, primary: bool) -> str:  # noqa: FBT001 - one of two styles
        return self.style if primary else _FRAME

    def _line(self, out: Text, number: int, marks: list[_Mark]) -> None:
        block = self.block
        begins = block is not None and block.span.line == number
        ends = block is not None and block.span.end_line == number
        columns = [column for mark in marks for column in (mark.start, mark.end)]
        columns += [block.span.column] if block is not None and begins else []
        columns += [block.span.end_column] if block is not None and ends else []
        line = self.lines[number]
        first, last = _looked_at(len(line), columns, self.width)
        text, places = cells_of(line[first:last])
        # What is beyond the part that is looked at counts as its end.
        edges = [places[min(column - first, len(places) - 1)] for column in columns]
        places_of = dict(zip(columns, edges, strict=True))
        marks = [
            _Mark(places_of[m.start], max(places_of[m.end], places_of[m.start] + 1), m.text, m.primary) for m in marks
        ]
        edges += [mark.end for mark in marks]
        start, text = _window(text, edges, self.width, before=first > 0, after=last < len(line))
        ends_at = len(text)
        marks = [
            _Mark(min(m.start - start, ends_at), min(m.end - start, ends_at + 1), m.text, m.primary) for m in marks
        ]

        out.append(f"{number + 1:>{self.gutter}} | ", _FRAME)
        # The bracket begins beside the first line if only blanks precede the label there, else below that line.
        column = places_of[block.span.column] - start if block is not None and begins else 0
        opens_beside = begins and not text[:column].strip()
        if block is not None:
            inside = block.span.line < number <= block.span.end_line
            bracket = "| " if inside else "/ " if opens_beside else "  "
            out.append(bracket, self._colour(block.primary))
        out.append(text.rstrip() + "\n")
        if block is not None and begins and not opens_beside:
            self._frame(out, lane=False)
            out.append(
                " " + "_" * (cell_len(text[:column]) + 1) + _sign(block.primary) + "\n", self._colour(block.primary)
            )
        if marks:
            self._marks(out, marks, text, lane=self._inside(number) or ends)
        if block is not None and ends:
            self._frame(out, lane=False)
            last = max(0, cell_len(text[: places_of[block.span.end_column] - start]) - 1)
            out.append("|_" + "_" * last + _sign(block.primary), self._colour(block.primary))
            out.append((f" {block.text}" if block.text else "") + "\n", self._colour(block.primary))

    def _frame(self, out: Text, *, lane: bool) -> None:
        out.append(" " * self.gutter + " | ", _FRAME)
        if lane:
            out.append("| ", self._colour(self._block_is_primary()))

    def _marks(self, out: Text, marks: list[_Mark], text: str, *, lane: bool) -> None:
        """The row of `^` and `-`, then the texts: the last one beside the marks, the others below theirs."""
        row: dict[int, bool] = {}
        spans = [(cell_len(text[: mark.start]), _right(text, mark), mark) for mark in marks]
        # The shorter of two overlapping marks stays visible.
        for left, right, mark in sorted(spans, key=lambda item: (item[0] - item[1], item[2].primary)):
            row.update(dict.fromkeys(range(left, right), mark.primary))
        edge = max(row) + 1
        spans.sort(key=lambda item: (item[0], item[1]))
        beside = spans.pop() if spans[-1][1] == edge and all(left < spans[-1][0] for left, _, _ in spans[:-1]) else None
        lead = "  " if self.lane and not lane else ""

        self._frame(out, lane=lane)
        out.append(lead)
        for cell in range(edge):
            known = row.get(cell)
            out.append(" " if known is None else _sign(known), "" if known is None else self._colour(known))
        if beside is not None and beside[2].text:
            out.append(f" {beside[2].text}", self._colour(beside[2].primary))
        out.append("\n")

        hung = [item for item in spans if item[2].text]
        if hung:
            self._hang(out, hung, lead, lane=lane)
        while hung:
            left, _, mark = hung.pop()
            self._hang(out, [item for item in hung if item[0] < left], lead, lane=lane, last=(left, mark))

    def _hang(
        self,
        out: Text,
        hung: list[tuple[int, int, _Mark]],
        lead: str,
        *,
        lane: bool,
        last: tuple[int, _Mark] | None = None,
    ) -> None:
        self._frame(out, lane=lane)
        out.append(lead)
        at = 0
        stems = {left: mark for left, _, mark in sorted(hung, key=lambda item: item[2].primary)}
        for left, mark in sorted(stems.items()):
            out.append(" " * (left - at)).append("|", self._colour(mark.primary))
            at = left + 1
        if last is not None:
            out.append(" " * (last[0] - at)).append(last[1].text, self._colour(last[1].primary))
        out.append("\n")


def _sign(primary: bool) -> str:  # noqa: FBT001 - one of two signs
    return "^" if primary else "-"


def _right(text: str, mark: _Mark) -> int:
    left = cell_len(text[: mark.start])
    beyond = mark.end - len(text)
    return max(left + 1, cell_len(text[: mark.end]) + max(0, beyond))


def _looked_at(length: int, columns: Sequence[int], width: int) -> tuple[int, int]:
    """The part of a line around its first mark that can be on the screen: its first and last character."""
    first, reach = min(columns, default=0), _LOOKED_AT * width
    return max(0, first - reach), min(length, first + reach)


def _window(text: str, edges: Sequence[int], width: int, *, before: bool, after: bool) -> tuple[int, str]:
    """The part of a line that fits, around the marks: the index of its first character, and the part.

    `before` and `after` say whether the line goes on beyond `text`.
    """
    if not before and not after and cell_len(text) <= width:
        return 0, text
    first, last = (min(edges), max(edges)) if edges else (0, 0)
    # A mark at the end of a line is one beyond its last character.
    need = cell_len(text[first:last])
    margin = max(8, min((width - need) // 2, width // 3))
    start = first
    while start > 0 and cell_len(text[start - 1 : first]) <= margin:
        start -= 1
    end = start
    leads = before or start > 0
    space = width - leads
    while end < len(text) and cell_len(text[start : end + 1]) <= space:
        end += 1
    if after or end < len(text):
        while cell_len(text[start:end]) > space - 1:
            end -= 1
        text = text[:end] + _CUT
    return (start - 1, _CUT + text[start:]) if leads else (0, text)
