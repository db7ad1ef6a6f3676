"""JSON text -> a tree of nodes with spans."""

from __future__ import annotations

import json
import re
from json import decoder
from types import MappingProxyType
from typing import NoReturn

from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError, Label, Span, excerpt
from kdspec.source.nodes import ListNode, MappingNode, Node, ScalarNode, Source
from kdspec.source.yaml_reader import MAX_DEPTH, MAX_SIZE

CODE = "KD601"

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD = re.compile(r"[^\s,:\[\]{}\"]+")
_WORDS = MappingProxyType({"true": True, "false": False, "null": None})
_DIGITS = 19


def read(source: Source) -> Node:
    """The tree of a JSON text. Raises `DiagnosticError` at the first syntax error or duplicate key."""
    if len(source.text) > MAX_SIZE:
        raise DiagnosticError(Diagnostic("KD004", f"`{source.name}` has more than {MAX_SIZE:,} characters"))
    reader = _Reader(source)
    root = reader.value(0)
    reader.skip()
    if reader.at < len(source.text):
        reader.stop("unexpected text after the JSON value")
    return root


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source, self.text, self.at = source, source.text, 0

    def skip(self) -> str:
        """Skip spaces and return the next character; it is empty at the end."""
        space = _SPACE.match(self.text, self.at)
        assert space is not None, "the pattern also matches an empty string"
        self.at = space.end()
        return self.text[self.at : self.at + 1]

    def stop(self, message: str, help_: str | None = None, *, code: str = CODE, span: Span | None = None) -> NoReturn:
        last = max(len(self.text.rstrip()) - 1, 0)
        here = span or self.source.span(min(self.at, last), min(min(self.at, last) + 1, len(self.text)))
        message = message if code != CODE else f"not JSON: {message}"
        raise DiagnosticError(
            Diagnostic(code, message, Label(here, "here"), help=help_), texts={self.source.name: self.text}
        )

    def value(self, depth: int) -> Node:
        first, start = self.skip(), self.at
        if depth > MAX_DEPTH:
            self.stop(f"nested more than {MAX_DEPTH} levels deep", code="KD004")
        match first:
            case "{":
                return self.mapping(start, depth)
            case "[":
                return self.list(start, depth)
            case '"':
                text = self.string()
                return ScalarNode(self.source.span(start, self.at), text, text, plain=False)
            case "":
                self.stop("the text ends before it is complete")
        return self.word(start)

    def word(self, start: int) -> Node:
        found = _WORD.match(self.text, start)
        text = found[0] if found else ""
        self.at = start + len(text)
        span = self.source.span(start, self.at)
        if text in _WORDS:
            return ScalarNode(span, text, _WORDS[text], plain=True)
        number = _NUMBER.fullmatch(text)
        if number is None:
            self.at = start
            known = {"True": "true", "False": "false", "None": "null"}
            help_ = f"JSON writes `{known[text]}`" if text in known else "strings need double quotes"
            shown = f"`{excerpt(text)}` is not a value" if text else "a value is missing"
            self.stop(shown, help_ if text else None, span=span if text else None)
        whole = number[1] is None and number[2] is None
        if whole and len(text.lstrip("-")) > _DIGITS:
            self.stop(f"the integer `{excerpt(text)}` is too large", code="KD004", span=span)
        return ScalarNode(span, text, int(text) if whole else float(text), plain=True)

    def string(self) -> str:
        try:
            # The stubs lack this function, which returns the end of a string.
            text, self.at = decoder.scanstring(self.text, self.at + 1, True)  # type: ignore[attr-defined]  # as above
        except json.JSONDecodeError as error:
            self.at = error.pos
            self.stop(error.msg[:1].lower() + error.msg[1:].removesuffix(" at"))
        return str(text)

    def list(self, start: int, depth: int) -> ListNode:
        node = ListNode(self.source.span(start, start), [])
        self.at += 1
        if self.skip() == "]":
            self.at += 1
        else:
            while True:
                node.items.append(self.value(depth + 1))
                if self.end("]"):
                    break
        node.span = self.source.span(start, self.at)
        return node

    def mapping(self, start: int, depth: int) -> MappingNode:
        node = MappingNode(self.source.span(start, start), {})
        self.at += 1
        if self.skip() == "}":
            self.at += 1
        else:
            while True:
                self.entry(node, depth)
                if self.end("}"):
                    break
        node.span = self.source.span(start, self.at)
        return node

    def entry(self, node: MappingNode, depth: int) -> None:
        if self.skip() != '"':
            self.stop("a key in double quotes is missing")
        start = self.at
        key = self.string()
        span = self.source.span(start, self.at)
        if key in node.items:
            self.stop(f"duplicate key `{excerpt(key)}`", code="KD002", span=span)
        if self.skip() != ":":
            self.stop("`:` is missing")
        self.at += 1
        node.items[key] = (span, self.value(depth + 1))

    def end(self, bracket: str) -> bool:
        """Whether the collection ends here; otherwise a comma follows."""
        found = self.skip()
        if found not in {",", bracket} or not found:
            self.stop(f"`,` or `{bracket}` is missing")
        self.at += 1
        if found == "," and self.skip() == bracket:
            self.stop(f"a comma precedes `{bracket}`", "remove the comma")
        return found == bracket
