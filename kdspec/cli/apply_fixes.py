"""Applies the edits of diagnostics to their files; all other bytes are unchanged."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError, Edit, Span
from kdspec.source.document import Source


def fixable(diagnostics: Iterable[Diagnostic], paths: Iterable[str], sources: Mapping[str, Source]) -> list[Edit]:
    """The edits of these files. Extended files, standard input and `--set` are not edited.

    Neither are values with an environment variable: the error is in the environment.
    """
    given = {os.path.realpath(path) for path in paths if path != "-" and "\0" not in path}
    edits = dict.fromkeys(d.edit for d in diagnostics if d.edit is not None)
    mine = [edit for edit in edits if os.path.realpath(edit.span.file) in given]
    return [edit for edit in mine if "${" not in _written(edit.span, sources)]


def apply(text: str, edits: Sequence[Edit]) -> tuple[str, int]:
    """The text with the edits applied, and their number. Edits that overlap are ambiguous; none of them is applied."""
    starts = (0, *accumulate(map(len, text.splitlines(keepends=True))))
    places = [(starts[e.span.line] + e.span.column, starts[e.span.end_line] + e.span.end_column, e.text) for e in edits]
    chosen = [
        (start, end, new)
        for i, (start, end, new) in enumerate(places)
        if not any(start < other[1] and other[0] < end for j, other in enumerate(places) if j != i)
    ]
    for start, end, new in sorted(chosen, reverse=True):
        text = text[:start] + new + text[end:]
    return text, len(chosen)


def write(edits: Iterable[Edit], sources: Mapping[str, Source]) -> int:
    """Apply edits to their files, and return how many. A file that has changed since it was read is not edited.

    Raises:
        DiagnosticError: a file cannot be written.
    """
    by_file: dict[str, list[Edit]] = {}
    for edit in edits:
        by_file.setdefault(edit.span.file, []).append(edit)
    done = 0
    for name, wanted in by_file.items():
        try:
            done += _fix(Path(os.path.realpath(name)), sources[name], wanted)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise DiagnosticError(Diagnostic("KD508", f"cannot write `{name}`: {reason}")) from error
    return done


def _written(span: Span, sources: Mapping[str, Source]) -> str:
    return sources[span.file].lines[span.line][span.column : span.end_column if span.line == span.end_line else None]


def _fix(path: Path, source: Source, edits: Sequence[Edit]) -> int:
    # The path is resolved: a symbolic link to the file stays a link.
    text = path.read_bytes().decode()
    bare = text.removeprefix("\ufeff")
    if Source("", bare).lines != source.lines:
        return 0
    new, count = apply(bare, edits)
    if count:
        _replace(path, text[: len(text) - len(bare)] + new)
    return count


def _replace(path: Path, text: str) -> None:
    """Write a temporary file and rename it, so that the file is never half written."""
    handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
        Path(beside).chmod(path.stat().st_mode & 0o7777)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink()
        raise
