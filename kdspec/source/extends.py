"""Composes a spec: the files that it extends, environment variables, and `--set`."""

from __future__ import annotations

import codecs
import os
import pathlib
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import NoReturn, TextIO

from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError, Label, Span, closest, excerpt
from kdspec.source import foreign, reach, set_option
from kdspec.source.document import Document, Located, index
from kdspec.source.environment import substitute
from kdspec.source.nodes import ListNode, MappingNode, Node, ScalarNode, Source
from kdspec.source.secrets import covered
from kdspec.source.variables import Variables
from kdspec.source.yaml_reader import MAX_SIZE, read

__all__ = ["Located", "compose", "load"]

# A file may be extended along several paths; without a limit, ten short files can cause millions of reads.
_MAX_FILES = 64
_SUFFIXES = (".yaml", ".yml")
_MANY = 1000
"""Names of a folder that are compared with that of a missing file."""


def load(
    path: str | pathlib.Path,
    sets: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    stdin: TextIO | None = None,
    *,
    untrusted: bool = False,
) -> Document:
    """Compose the spec in a file, or in standard input where `path` is `-`; see `compose`. Raises `DiagnosticError`."""
    if str(path) == "-":
        text = _read_stream(stdin or sys.stdin)
        return compose(text, "<stdin>", pathlib.Path(), sets, environ, untrusted=untrusted)
    file = pathlib.Path(path)
    if untrusted and reach.outside(str(file), str(file.parent)):
        message = f"`{excerpt(_name(file), 200)}` leads out of its folder"
        raise DiagnosticError(Diagnostic("KD003", message, help=reach.UNTRUSTED))
    return compose(_read_file(file), _name(file), file.parent, sets, environ, untrusted=untrusted)


def compose(
    text: str,
    name: str,
    folder: pathlib.Path = pathlib.Path(),
    sets: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    *,
    untrusted: bool = False,
) -> Document:
    """Read `text` with the files that it extends, apply `sets` (arguments of `--set`), then substitute variables.

    Relative paths start in `folder`. `environ` defaults to the environment of the process. Where the text is `untrusted`, no
    path of it may lead out of `folder`, and it reads no environment. Raises `DiagnosticError`;
    its `texts` has every source that was read and is a spec.
    """
    known = None if untrusted else os.environ if environ is None else environ
    composer = _Composer(folder, known, folder if untrusted else None)
    try:
        return composer.document(Source(name, text.removeprefix("\ufeff")), sets)
    except DiagnosticError as error:
        shown = (source for source in composer.sources.values() if source.shown)
        texts = {source.name: _without_secrets(source, error) for source in shown}
        hidden = map(composer.hidden, foreign.silent(error.diagnostics, composer.sources))
        raise DiagnosticError(*hidden, texts=texts) from error


class _Composer:
    def __init__(
        self, folder: pathlib.Path, environ: Mapping[str, str] | None, within: pathlib.Path | None = None
    ) -> None:
        self.folder, self.environ, self.within = folder, environ, within
        self.sources: dict[str, Source] = {}
        # The folders of sources outside the spec's folder.
        self.folders: dict[str, pathlib.Path] = {}
        self.files = 0
        self.values: dict[str, str] = {}

    def hidden(self, found: Diagnostic) -> Diagnostic:
        """A diagnostic without the values of variables."""
        hide = Variables(values=self.values).hide
        help_ = found.help and hide(found.help)
        return replace(found, message=hide(found.message), notes=tuple(map(hide, found.notes)), help=help_)

    def substituted(self, node: Node) -> list[Diagnostic]:
        """Replace the variables in a node; what is wrong with them."""
        done = substitute(node, self.sources, self.environ)
        self.values |= done.values
        return done.found

    def document(self, source: Source, sets: Sequence[str]) -> Document:
        root = self.tree(source, self.folder, {os.path.realpath(source.name): source.name})
        found: list[Diagnostic] = []
        for number, argument in enumerate(sets, start=1):
            given = Source("--set" if number == 1 else f"--set#{number}", argument)
            self.sources[given.name] = given
            try:
                root = set_option.apply(root, given)
            except DiagnosticError as error:
                found += error.diagnostics
        # After merging and `--set`: a variable in a value that is replaced need not be set.
        if root is not None:
            found += self.substituted(root)
        if found:
            raise DiagnosticError(*found)
        return replace(index(root, self.sources, self.folder, self.folders, self.values), within=self.within)

    def tree(self, source: Source, folder: pathlib.Path, chain: Mapping[str, str]) -> Node | None:
        """The tree of a source, merged over those that it extends. `chain` has the files that led to it: path and name."""
        self.sources[source.name] = source
        root = read(source)
        if not isinstance(root, MappingNode) or "extends" not in root.items:
            return root
        _, value = root.items.pop("extends")
        merged: MappingNode | None = None
        for item in value.items if isinstance(value, ListNode) else [value]:
            base = self.base(item, folder, chain)
            merged = base if merged is None else _merge(merged, base)
        return root if merged is None else _merge(merged, root)

    def base(self, item: Node, folder: pathlib.Path, chain: Mapping[str, str]) -> MappingNode:
        if found := self.substituted(item):
            raise DiagnosticError(*found)
        if not isinstance(item, ScalarNode) or not isinstance(item.value, str):
            _fail("`extends` takes the name of a file, or a list of names", item.span)
        path = folder / item.value
        written = item.value if item.insertion is None else item.insertion.written
        real, name = os.path.realpath(path), _name(pathlib.Path(os.path.normpath(folder / written)))
        self.files += 1
        if self.files > _MAX_FILES:
            _fail(f"more than {_MAX_FILES} files are extended", item.span)
        if real in chain:
            circle = " → ".join(excerpt(one) for one in (*[*chain.values()][[*chain].index(real) :], name))
            _fail(f"files extend each other in a circle: {circle}", item.span)
        if self.within is not None and reach.outside(str(path), str(self.within)):
            _fail(f"`{excerpt(name)}` leads out of the folder of the spec", item.span, reach.UNTRUSTED)
        try:
            text = _read_file(path)
        except DiagnosticError as error:
            _fail(error.diagnostics[0].message, item.span, error.diagnostics[0].help)
        if path.parent.resolve() != self.folder.resolve():
            self.folders[name] = path.parent
        return self.spec(Source(name, text, shown=False), path.parent, {**chain, real: name}, item.span)

    def spec(self, source: Source, folder: pathlib.Path, chain: Mapping[str, str], span: Span) -> MappingNode:
        """The tree of a file that is extended at `span`. It is shown if it is a spec, with what it extends."""
        earlier = self.sources.get(source.name, source)
        try:
            base = self.tree(replace(source, shown=earlier.shown), folder, chain)
        except DiagnosticError:
            if foreign.has_version(source.text):
                self.sources[source.name] = replace(source, shown=True)
            raise
        name = excerpt(source.name)
        if not isinstance(base, MappingNode):
            _fail(f"`{name}` is {'not a mapping' if base else 'empty'}", span)
        if foreign.is_spec(base):
            self.sources[source.name] = replace(source, shown=True)
        elif not foreign.is_part(base):
            _fail(f"`{name}` is not a spec", span, foreign.HELP)
        return base


def _without_secrets(source: Source, error: DiagnosticError) -> str:
    """The text of a source for excerpts, without secrets that only the place of a diagnostic makes known.

    They are split over lines or variables, written with escapes, or known by their key.
    """
    lines = list(source.lines)
    for found in error.diagnostics:
        if found.code != "KD009" or found.primary is None or found.primary.span.file != source.name:
            continue
        at = found.primary.span
        for number in range(at.line, at.end_line + 1):
            line = lines[number]
            start = at.column if number == at.line else 0
            end = at.end_column if number == at.end_line else len(line)
            known = at.line == at.end_line and covered(line[start:end]) != line[start:end]
            lines[number] = line if known else line[:start] + "*" * (end - start) + line[end:]
    return source.text if lines == list(source.lines) else "\n".join(lines)


def _merge(base: MappingNode, over: MappingNode) -> MappingNode:
    """`over` merged into `base`: mappings key by key; any other value, null included, replaces that of `base`."""
    items = dict(base.items)
    for key, (span, child) in over.items.items():
        below = items[key][1] if key in items else None
        if isinstance(below, MappingNode) and isinstance(child, MappingNode):
            child = _merge(below, child)  # noqa: PLW2901 - the merged mapping stands where the child is written
        items[key] = (span, child)
    return MappingNode(over.span, items)


def _fail(message: str, span: Span, advice: str | None = None) -> NoReturn:
    raise DiagnosticError(Diagnostic("KD006", message, Label(span), help=advice))


def _name(path: pathlib.Path) -> str:
    """The path as printable text; its bytes need not be UTF-8."""
    return os.fsencode(path).decode(errors="replace")


def _read_file(path: pathlib.Path) -> str:
    """The text of a regular file. Pipes and devices are refused: they could block or never end."""
    name = excerpt(_name(path), 200)
    try:
        kind = "a folder" if path.is_dir() else reach.special(str(path))
        if kind is not None or not stat.S_ISREG(path.stat().st_mode):
            raise DiagnosticError(
                Diagnostic("KD003", f"`{name}` is {kind or 'not a regular file'}", help=_instead_of(path))
            )
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        # ValueError: a NUL in the name.
        reason = (error.strerror if isinstance(error, OSError) else None) or "not the name of a file"
        near = _beside(path) if isinstance(error, FileNotFoundError) else None
        question = None if near is None else f"did you mean `{near}`?"
        raise DiagnosticError(Diagnostic("KD003", f"cannot read `{name}`: {reason.lower()}", help=question)) from error
    return _decode(data, name)


def _beside(path: pathlib.Path) -> str | None:
    """The spec in the same folder whose name is near that of a missing one."""
    try:
        with os.scandir(path.parent) as entries:
            specs = [entry.name for entry in islice(entries, _MANY) if entry.name.endswith(_SUFFIXES)]
    except OSError:
        return None
    found = closest(path.name, specs)
    return None if found is None else excerpt(_name(path.parent / found), 200)


def _instead_of(path: pathlib.Path) -> str:
    """What to name in place of what is no file."""
    inside = path / "spec.yaml"
    if not inside.is_file():
        return "name a YAML file, or `-` for standard input"
    if (path / "events.jsonl").is_file():
        # The paths of the spec in it begin in the folder of the spec that the run was begun with.
        return "it has a run; to resume it, or to run it again with `--restart`, name the spec that it was begun with"
    return f"did you mean `{excerpt(_name(inside), 200)}`?"


def _read_stream(stream: TextIO) -> str:
    try:
        text = stream.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        raise DiagnosticError(Diagnostic("KD003", "standard input is not UTF-8 text, or cannot be read")) from error
    if len(text) > MAX_SIZE:
        raise DiagnosticError(Diagnostic("KD004", f"standard input has more than {MAX_SIZE:,} characters"))
    return text


def _decode(data: bytes, name: str) -> str:
    if len(data) > MAX_SIZE:
        raise DiagnosticError(Diagnostic("KD004", f"`{name}` has more than {MAX_SIZE:,} bytes"))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            message = f"`{name}` is UTF-16"
        else:
            line = data.count(b"\n", 0, error.start) + 1
            message = f"`{name}` is not UTF-8: byte 0x{data[error.start]:02X} in line {line}"
        raise DiagnosticError(Diagnostic("KD003", message, help="save the file as UTF-8")) from error
