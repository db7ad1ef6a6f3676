"""YAML text -> plain data, and where each key and value is written."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError, Label, Span
from kdspec.source.nodes import ListNode, MappingNode, Node, ScalarNode, Source
from kdspec.source.scalars import Scalar
from kdspec.source.yaml_reader import MAX_DEPTH, MAX_NODES, read

__all__ = ["Document", "Located", "Path", "Source", "index", "parse"]

Path = tuple[str | int, ...]
Data = Scalar | list["Data"] | dict[str | int, "Data"]


class Located(str):
    """A string that was written in a file of another folder than the document's; relative paths in it start there."""

    __slots__ = ("folder",)
    folder: pathlib.Path

    def __new__(cls, text: str, folder: pathlib.Path) -> Self:
        """`text`, written in a file in `folder`."""
        self = super().__new__(cls, text)
        self.folder = folder
        return self

    def __reduce__(self) -> tuple[type[Located], tuple[str, pathlib.Path]]:
        """What copies and pickles are made from: that of `str` knows of no folder."""
        return Located, (str(self), self.folder)


@dataclass(frozen=True)
class Document:
    """Plain data, with the span of each key and value. `data` is None where the text has no content.

    `folder` is where relative paths in the document start, but for strings that are `Located`.
    """

    data: Any
    keys: Mapping[Path, Span]
    values: Mapping[Path, Span]
    sources: Mapping[str, Source]
    folder: pathlib.Path
    trusts_code: bool = False
    """Whether who gave the text lets the models that it names bring code. Nothing in the text can say so."""

    def locate(self, loc: Iterable[str | int]) -> Path:
        """The longest path that exists here, without the segments that do not (such as pydantic's union tags)."""
        path: Path = ()
        for segment in loc:
            if (*path, segment) in self.values:
                path = (*path, segment)
        return path

    def inside(self, path: Path, start: int, end: int) -> Span:
        """The span of the characters `start` to `end` of a string; the whole scalar where that cannot be told."""
        span = self.values[path]
        value: Any = self.data
        for segment in path:
            value = value[segment]
        return self.sources[span.file].inside(span, value, start, end) if isinstance(value, str) else span


def parse(text: str, name: str, folder: pathlib.Path = pathlib.Path()) -> Document:
    """Read one YAML document: YAML 1.2 scalars, no repeated keys, no tags. Raises `DiagnosticError`."""
    source = Source(name, text.removeprefix("\ufeff"))
    return index(read(source), {name: source}, folder, {})


def index(
    root: Node | None, sources: Mapping[str, Source], folder: pathlib.Path, folders: Mapping[str, pathlib.Path]
) -> Document:
    """The document of a tree. `folders` says, by name of the source, which sources are in another folder."""
    indexer = _Indexer(sources, folders)
    data = None if root is None else indexer.add(root, ())
    keys, values = MappingProxyType(indexer.keys), MappingProxyType(indexer.values)
    return Document(data, keys, values, MappingProxyType(dict(sources)), folder)


class _Indexer:
    def __init__(self, sources: Mapping[str, Source], folders: Mapping[str, pathlib.Path]) -> None:
        self.sources, self.folders = sources, folders
        self.keys: dict[Path, Span] = {}
        self.values: dict[Path, Span] = {}

    def add(self, node: Node, path: Path) -> Data:
        # Files that are merged may pass the limits which each of them keeps.
        if len(path) >= MAX_DEPTH or len(self.keys) + len(self.values) >= MAX_NODES:
            limit = f"{MAX_DEPTH} levels deep" if len(path) >= MAX_DEPTH else f"{MAX_NODES:,} keys and values"
            texts = {name: source.text for name, source in self.sources.items()}
            message = f"the spec is more than {limit}, with all that it extends"
            raise DiagnosticError(Diagnostic("KD004", message, Label(node.span)), texts=texts)
        self.values[path] = node.span
        match node:
            case ScalarNode(value=str(text)) if node.span.file in self.folders:
                return Located(text, self.folders[node.span.file])
            case ScalarNode():
                return node.value
            case ListNode():
                return [self.add(item, (*path, i)) for i, item in enumerate(node.items)]
            case MappingNode():
                return {key: self.entry(span, child, (*path, key)) for key, (span, child) in node.items.items()}

    def entry(self, span: Span, child: Node, path: Path) -> Data:
        self.keys[path] = span
        return self.add(child, path)
