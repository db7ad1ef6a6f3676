"""YAML text -> plain data, with the location of each key and value."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError, Label, Span
from kdspec.source.nodes import ListNode, MappingNode, Node, ScalarNode, Source
from kdspec.source.scalars import Scalar
from kdspec.source.variables import Insertion, Variables
from kdspec.source.yaml_reader import MAX_DEPTH, MAX_NODES, read

__all__ = ["Document", "Located", "Path", "Source", "index", "parse"]

Path = tuple[str | int, ...]
Data = Scalar | list["Data"] | dict[str | int, "Data"]


class Located(str):
    """A string from a file in another folder than the document's; a relative path in it starts in that folder."""

    __slots__ = ("folder",)
    folder: pathlib.Path

    def __new__(cls, text: str, folder: pathlib.Path) -> Self:
        """`text`, written in a file in `folder`."""
        self = super().__new__(cls, text)
        self.folder = folder
        return self

    def __reduce__(self) -> tuple[type[Located], tuple[str, pathlib.Path]]:
        """Keep the folder in copies and pickles; the method of `str` drops it."""
        return Located, (str(self), self.folder)


@dataclass(frozen=True)
class Document:
    """Plain data, with the span of each key and value. `data` is None where the text has no content.

    `folder` is where relative paths in the document start, except for strings that are `Located`.
    """

    data: Any
    keys: Mapping[Path, Span]
    values: Mapping[Path, Span]
    sources: Mapping[str, Source]
    folder: pathlib.Path
    variables: Variables = field(default_factory=Variables)
    within: pathlib.Path | None = None
    """The folder out of which no path may lead; None: paths may lead anywhere."""

    def locate(self, loc: Iterable[str | int]) -> Path:
        """The longest path of `loc` that exists in the document; other segments, such as pydantic's union tags, are
        skipped.
        """
        path: Path = ()
        for segment in loc:
            if (*path, segment) in self.values:
                path = (*path, segment)
        return path

    def has_entries(self, path: Path) -> bool:
        """Whether the value at a path of the document is a list or mapping with something in it."""
        value: Any = self.data
        for segment in path:
            value = value[segment]
        return isinstance(value, (list, dict)) and len(value) > 0

    def inside(self, path: Path, start: int, end: int) -> Span:
        """The span of the characters `start` to `end` of a string; the whole scalar if that cannot be determined."""
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
    root: Node | None,
    sources: Mapping[str, Source],
    folder: pathlib.Path,
    folders: Mapping[str, pathlib.Path],
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Document:
    """The document of a tree.

    Args:
        root: the tree, with the values of variables.
        sources: the texts by their names.
        folder: where relative paths start.
        folders: the folders of the sources in other folders, by the source's name.
        environ: the variables that were used, with their values.
    """
    indexer = _Indexer(sources, folders)
    data = None if root is None else indexer.add(root, ())
    keys, values = MappingProxyType(indexer.keys), MappingProxyType(indexer.values)
    words = frozenset(indexer.words) | {key for path in keys if isinstance(key := path[-1], str)}
    variables = Variables(MappingProxyType(indexer.places), MappingProxyType(dict(environ)), words)
    return Document(data, keys, values, MappingProxyType(dict(sources)), folder, variables)


class _Indexer:
    def __init__(self, sources: Mapping[str, Source], folders: Mapping[str, pathlib.Path]) -> None:
        self.sources, self.folders = sources, folders
        self.keys: dict[Path, Span] = {}
        self.values: dict[Path, Span] = {}
        self.places: dict[Path, Insertion] = {}
        self.words: set[str] = set()

    def add(self, node: Node, path: Path) -> Data:
        # Files that each keep the limits may exceed them when merged.
        if len(path) >= MAX_DEPTH or len(self.keys) + len(self.values) >= MAX_NODES:
            limit = f"{MAX_DEPTH} levels deep" if len(path) >= MAX_DEPTH else f"{MAX_NODES:,} keys and values"
            texts = {name: source.text for name, source in self.sources.items() if source.shown}
            message = f"the spec is more than {limit}, including the files that it extends"
            raise DiagnosticError(Diagnostic("KD004", message, Label(node.span)), texts=texts)
        self.values[path] = node.span
        if isinstance(node, ScalarNode) and node.insertion is not None:
            self.places[path] = node.insertion
        elif isinstance(node, ScalarNode) and isinstance(node.value, str):
            self.words.add(node.value)
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
