"""`--set path=VALUE`: one value of a spec, set on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError, Label, Span, excerpt
from kdspec.source.nodes import ListNode, MappingNode, Node, ScalarNode, Source
from kdspec.source.yaml_reader import MAX_DEPTH, read

_SEGMENT = re.compile(r"""(?P<quote>["'])(?P<quoted>[^"'\r\n]*)(?P=quote)|(?P<bare>[^.="'\s]+)""")
_INDEXED = re.compile(r"(?P<key>[^\[\]]+)(?P<indices>(\[[0-9]{1,18}\])+)")
_FORM = "write `path.to.key=VALUE`, with the value in YAML"


def apply(root: Node | None, source: Source) -> Node:
    """The tree with the value of the argument in `source` put at its path.

    Raises `DiagnosticError` if the argument is malformed or its path passes through a value without keys.
    """
    segments, start = _path(source)
    # Blanks in place of the path keep the value's spans those of the whole argument.
    value = read(Source(source.name, " " * start + source.text[start:]))
    if value is None:
        end = len(source.text)
        if source.text[start:].strip():
            _fail("only a comment follows the `=`", source.span(start, end), "quote a value that begins with `#`")
        value = ScalarNode(source.span(end, end), "", None, plain=True)
    return _put(root, segments, value)


@dataclass(frozen=True)
class _Segment:
    text: str
    span: Span
    quoted: bool

    @property
    def number(self) -> int | None:
        digits = not self.quoted and re.fullmatch("[0-9]{1,18}", self.text)
        return int(self.text) if digits else None

    def key(self, mapping: MappingNode) -> str | int:
        """The key: one that the mapping has, or else the one that YAML would parse."""
        if self.number is None or (self.text in mapping.items and self.number not in mapping.items):
            return self.text
        return self.number


def _path(source: Source) -> tuple[list[_Segment], int]:
    """The segments of the path, and the offset at which the value begins."""
    text, at = source.text, 0
    segments: list[_Segment] = []
    while True:
        match = _SEGMENT.match(text, at)
        if match is None:
            _fail("expected a key here", source.span(at, min(at + 1, len(text))), _FORM)
        segments += _segments(match, source)
        at = match.end()
        if len(segments) > MAX_DEPTH:
            _fail(f"the path has more than {MAX_DEPTH} parts", source.span(0, at), None)
        if text[at : at + 1] == "=":
            return segments, at + 1
        if text[at : at + 1] != ".":
            _fail("expected `.` or `=` here", source.span(at, min(at + 1, len(text))), _FORM)
        at += 1


def _segments(match: re.Match[str], source: Source) -> list[_Segment]:
    """The segments of one part of the path: a key, and the indices in brackets behind it, as in `matches[0]`."""
    if match["bare"] is None:
        return [_Segment(match["quoted"], source.span(*match.span()), quoted=True)]
    indexed = _INDEXED.fullmatch(match["bare"])
    start = match.start()
    if indexed is None:
        return [_Segment(match["bare"], source.span(*match.span()), quoted=False)]
    found = [_Segment(indexed["key"], source.span(start, start + len(indexed["key"])), quoted=False)]
    for number in re.finditer("[0-9]+", indexed["indices"]):
        first = start + len(indexed["key"]) + number.start()
        found.append(_Segment(number[0], source.span(first, first + len(number[0])), quoted=False))
    return found


def _put(node: Node | None, segments: list[_Segment], value: Node) -> Node:
    """A copy of `node` along the path: aliases share nodes, and only one of the places is set."""
    if not segments:
        return value
    first, rest = segments[0], segments[1:]
    if node is None or (isinstance(node, ScalarNode) and node.value is None):
        node = MappingNode(first.span, {})
    if isinstance(node, MappingNode):
        key = first.key(node)
        written = node.items.get(key)
        span = written[0] if written is not None and rest else first.span
        return MappingNode(node.span, node.items | {key: (span, _put(written and written[1], rest, value))})
    if isinstance(node, ScalarNode):
        message = f"`{excerpt(first.text)}` cannot be set inside `{excerpt(str(node.value))}`, which is not a mapping"
        _fail(message, first.span, "set the whole value: `path={key: value}`")
    number = first.number
    if number is None or number >= len(node.items):
        there = f"the items `0` to `{len(node.items) - 1}`" if node.items else "no items"
        _fail(f"`{excerpt(first.text)}` is not in this list, which has {there}", first.span, None)
    items = [_put(item, rest, value) if i == number else item for i, item in enumerate(node.items)]
    return ListNode(node.span, items)


def _fail(message: str, span: Span, advice: str | None) -> NoReturn:
    raise DiagnosticError(Diagnostic("KD008", message, Label(span), help=advice))
