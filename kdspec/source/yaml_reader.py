"""YAML text -> a tree of nodes with spans, within size limits that are checked before anything is expanded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import yaml

from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError, Label, Span, excerpt
from kdspec.source import yaml_errors
from kdspec.source.nodes import ListNode, MappingNode, Node, ScalarNode, Source
from kdspec.source.scalars import IntegerTooLargeError, Scalar, resolve

MAX_SIZE = 2**20
MAX_DEPTH = 64
MAX_NODES = 20_000

# PyYAML's stubs do not type the attributes and marks of events and errors.
_Event = Any
_Mark = Any

_CORE = "tag:yaml.org,2002:"
_TYPES: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {"null": (type(None),), "bool": (bool,), "int": (int,), "float": (float, int)}
)
_PROPERTIES = re.compile(r"(?:[&!]\S*(?:\s|#.*)*)*")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")


def read(source: Source) -> Node | None:
    """The tree of a text, or None if it has no content. Raises `DiagnosticError` with every error found."""
    reader = _Reader(source)
    root = reader.document()
    if reader.found:
        raise DiagnosticError(*reader.found, texts={source.name: source.text})
    return root


class _Reader:
    """One pass over PyYAML's events. Its own composer recurses without limit, and its C parser crashes when deep."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.text = source.text
        self.found: list[Diagnostic] = []
        self.count = 0
        # Where the last content ended: a block collection has no end marker in the text.
        self.end = 0
        # None while the anchor's node is still open.
        self.anchors: dict[str, Node | None] = {}
        self.check_text()
        self.loader = yaml.SafeLoader(source.text)

    def check_text(self) -> None:
        if len(self.text) > MAX_SIZE:
            self.stop(Diagnostic("KD004", f"more than {MAX_SIZE:,} characters of text"))
        if bad := _UNPRINTABLE.search(self.text):
            utf16 = bad.group() == "\0"
            message = f"the control character U+{ord(bad.group()):04X} is not allowed"
            advice = "if the file is UTF-16, save it as UTF-8" if utf16 else "remove it, or escape it in double quotes"
            self.stop(Diagnostic("KD001", message, Label(self.source.span(*bad.span())), help=advice))

    def document(self) -> Node | None:
        self.event()
        if isinstance(self.event(), yaml.StreamEndEvent):
            return None
        root = self.node(self.event(), 1)
        self.event()
        after = self.event()
        if not isinstance(after, yaml.StreamEndEvent):
            advice = "write one document per file"
            self.stop(Diagnostic("KD005", "a second document begins", Label(self.point(after.start_mark)), help=advice))
        return root

    def event(self) -> _Event:
        """PyYAML's next event; its errors become diagnostics."""
        try:
            return self.loader.get_event()  # type: ignore[no-untyped-call]  # the stubs have not typed it
        except yaml.MarkedYAMLError as error:
            mark, context_mark = error.problem_mark, error.context_mark
            assert mark is not None, "errors of the scanner and the parser have marks"
            explanation = yaml_errors.explain(error.problem or "not YAML", error.context, self.text, mark.index)
            if explanation.at_context and context_mark is not None:
                mark, context_mark = context_mark, None
            context = (
                (Label(self.point(context_mark), explanation.context),) if explanation.context and context_mark else ()
            )
            problem = Diagnostic(
                "KD001", explanation.message, Label(self.point(mark), explanation.label), context, help=explanation.help
            )
        except (ValueError, OverflowError):
            # An escape or a version number that Python's chr() or int() refuses.
            here = self.point(self.loader.get_mark())
            problem = Diagnostic("KD001", "this number is too large", Label(here))
        return self.stop(problem)

    def stop(self, problem: Diagnostic) -> NoReturn:
        raise DiagnosticError(*self.found, problem, texts={self.source.name: self.text})

    def fail(self, code: str, message: str, span: Span, advice: str | None = None) -> None:
        self.found.append(Diagnostic(code, message, Label(span), help=advice))

    def offset(self, mark: _Mark) -> int:
        """The offset of a mark. Its line and column are not used: they do not count every character."""
        return min(int(mark.index), len(self.text))

    def point(self, mark: _Mark) -> Span:
        """One character: that of the mark, or the last visible one."""
        start = min(self.offset(mark), max(0, len(self.text.rstrip()) - 1))
        end = min(start + 1, len(self.text))
        return self.source.span(start, start if self.text[start:end].splitlines() == [""] else end)

    def node(self, event: _Event, depth: int) -> Node:
        """The whole node that begins with `event`."""
        start = self.offset(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, start, depth)
        self.grow(1, depth, event)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if event.anchor is not None or event.tag is not None:
            limit = self.offset(event.end_mark) if isinstance(event, yaml.ScalarEvent) else len(self.text)
            properties = _PROPERTIES.match(self.text, start, limit)
            start = properties.end() if properties else start
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = self.scalar(event, start)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self.sequence(event, start, depth)
        else:
            node = self.mapping(event, start, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def grow(self, size: int, depth: int, event: _Event) -> None:
        """Count the size of a node in the expanded tree before it is built."""
        self.count += size
        if self.count > MAX_NODES:
            message = f"more than {MAX_NODES:,} keys and values, counted with aliases and merge keys expanded"
            self.stop(Diagnostic("KD004", message, Label(self.point(event.start_mark), "the limit is exceeded here")))
        if depth > MAX_DEPTH:
            message = f"nested more than {MAX_DEPTH} levels deep"
            self.stop(Diagnostic("KD004", message, Label(self.point(event.start_mark), "the limit is exceeded here")))

    def alias(self, event: _Event, start: int, depth: int) -> Node:
        self.end = self.offset(event.end_mark)
        span = self.source.span(start, self.end)
        if event.anchor not in self.anchors:
            self.fail("KD001", f"no anchor `&{excerpt(event.anchor)}` precedes this alias", span)
            return ScalarNode(span, event.anchor, event.anchor, plain=False)
        target = self.anchors[event.anchor]
        if target is None:
            self.fail("KD005", f"the alias `*{excerpt(event.anchor)}` contains itself", span)
            return ScalarNode(span, event.anchor, event.anchor, plain=False)
        self.grow(target.size, depth + target.height - 1, event)
        return target

    def scalar(self, event: _Event, start: int) -> ScalarNode:
        end = self.offset(event.end_mark)
        if event.style in {"|", ">"}:
            # PyYAML's mark is after the empty lines that follow.
            end = start + len(self.text[start:end].rstrip())
        self.end = end
        text, span = event.value, self.source.span(start, end)
        if _NOT_TEXT.search(text):
            self.fail("KD001", "this escape is not a valid character", span)
        plain = event.style is None and event.tag is None
        return ScalarNode(span, text, self.value(event, text, start, span), plain)

    def value(self, event: _Event, text: str, start: int, span: Span) -> Scalar:
        kind = None if event.tag is None else _kind(event.tag)
        if kind == "str" or (kind is None and event.style is not None):
            return str(text)
        try:
            value = resolve(text)
        except IntegerTooLargeError:
            message = f"the integer `{excerpt(text, 24)}` has more than 64 bits"
            self.fail("KD004", message, span, "quote it if it is a string")
            return None
        if kind is None:
            return value
        fits = isinstance(value, _TYPES.get(kind, ())) and (kind == "bool" or not isinstance(value, bool))
        if not fits:
            self.refuse_tag(event, start)
        return float(value) if kind == "float" and isinstance(value, int) else value

    def refuse_tag(self, event: _Event, start: int) -> None:
        """Report the tag of a node whose content begins at `start`."""
        begin = self.offset(event.start_mark)
        span = self.source.span(begin, begin + len(self.text[begin:start].rstrip()))
        shown = excerpt(event.tag.replace(_CORE, "!!", 1))
        if _kind(event.tag) in {*_TYPES, "str", "seq", "map"}:
            self.fail("KD005", f"the value does not have the type of its tag `{shown}`", span, "remove the tag")
        else:
            self.fail("KD005", f"the tag `{shown}` is not allowed", span, "a spec is plain data; remove the tag")

    def sequence(self, event: _Event, start: int, depth: int) -> ListNode:
        node = ListNode(self.source.span(start, start), [])
        while not isinstance(following := self.event(), yaml.SequenceEndEvent):
            item = self.node(following, depth + 1)
            node.items.append(item)
            node.size += item.size
            node.height = max(node.height, item.height + 1)
        self.close(node, "seq", event, start, following)
        return node

    def mapping(self, event: _Event, start: int, depth: int) -> MappingNode:
        own: dict[str | int, tuple[Span, Node]] = {}
        merged: dict[str | int, tuple[Span, Node]] = {}
        merge_key: Span | None = None
        while not isinstance(following := self.event(), yaml.MappingEndEvent):
            key_node = self.node(following, depth + 1)
            is_merge = isinstance(key_node, ScalarNode) and key_node.plain and key_node.text == "<<"
            value = self.node(self.event(), depth + 1)
            if is_merge and merge_key is not None:
                self.duplicate("<<", key_node.span, merge_key)
            elif is_merge:
                merge_key = key_node.span
                merged = self.merge(value)
            elif (key := self.key(key_node)) is not None:
                if key in own:
                    self.duplicate(key, key_node.span, own[key][0])
                else:
                    own[key] = (key_node.span, value)
        node = MappingNode(self.source.span(start, start), merged | own)
        node.size += sum(1 + child.size for _, child in node.items.values())
        node.height += max((child.height for _, child in node.items.values()), default=0)
        self.close(node, "map", event, start, following)
        return node

    def close(self, node: ListNode | MappingNode, kind: str, event: _Event, start: int, closing: _Event) -> None:
        if event.flow_style:
            self.end = self.offset(closing.end_mark)
        node.span = self.source.span(start, max(start, self.end))
        if event.tag is not None and event.tag != _CORE + kind:
            self.refuse_tag(event, start)

    def key(self, node: Node) -> str | int | None:
        if isinstance(node, ScalarNode) and isinstance(node.value, (str, int)) and not isinstance(node.value, bool):
            return node.value
        if isinstance(node, ScalarNode):
            message = f"the key `{excerpt(node.text)}` is neither a string nor an integer"
            self.fail("KD005", message, node.span, "put it in quotes")
        else:
            self.fail(
                "KD005", "a list or a mapping cannot be a key", node.span, "quote a string that contains `{` or `[`"
            )
        return None

    def duplicate(self, key: str | int, again: Span, first: Span) -> None:
        label = (Label(first, "first used here"),)
        self.found.append(
            Diagnostic("KD002", f"duplicate key `{excerpt(str(key))}`", Label(again, "used again here"), label)
        )

    def merge(self, value: Node) -> dict[str | int, tuple[Span, Node]]:
        """The entries that `<<: value` adds; if several mappings have a key, the first one wins."""
        merged: dict[str | int, tuple[Span, Node]] = {}
        for mapping in reversed(value.items if isinstance(value, ListNode) else [value]):
            if isinstance(mapping, MappingNode):
                merged |= mapping.items
            else:
                self.fail("KD005", "only mappings can be merged with `<<`", mapping.span)
        return merged


def _kind(tag: str) -> str:
    """The name of a core tag; nothing for other tags."""
    return tag.removeprefix(_CORE) if tag.startswith(_CORE) else ""
