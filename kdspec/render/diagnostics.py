"""Diagnostics as text for terminals, editors, programs and GitHub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from kdspec.diagnostics.diagnostic import Diagnostic, Span
from kdspec.render.clean import clean
from kdspec.render.formats import Format
from kdspec.render.snippet import Snippet
from kdspec.source.document import Source
from kdspec.source.secrets import covered

__all__ = ["Format", "concise", "full", "github", "plain", "summary"]

_STYLES: Mapping[str, str] = MappingProxyType({"error": "bold red", "warning": "bold yellow", "note": "bold cyan"})
_FRAME = "blue"


def full(diagnostic: Diagnostic, sources: Mapping[str, Source], width: int) -> Text:
    """The format of rustc: message, source excerpt with labels, notes, help. Ends with a line break."""
    style = _STYLES[diagnostic.severity]
    out = Text(no_wrap=True, overflow="ignore")
    out.append(f"{diagnostic.severity}[{clean(diagnostic.code)}]", style)
    first, *others = clean(diagnostic.message).splitlines() or [""]
    out.append(f": {first}\n", "bold")
    out.append("".join(f"  {line}\n" for line in others))

    labels = [(diagnostic.primary, True)] if diagnostic.primary else []
    labels += [(label, False) for label in diagnostic.secondary]
    quoted = [label.span for label, _ in labels if _quotable(label.span, sources)]
    gutter = len(str(max((max(span.line, span.end_line) + 1 for span in quoted), default=0)))
    for file in dict.fromkeys(label.span.file for label, _ in labels):
        inside = [item for item in labels if item[0].span.file == file]
        at = inside[0][0].span
        out.append(" " * gutter + "--> ", _FRAME).append(f"{clean(file)}:{at.line + 1}:{at.column + 1}\n")
        shown = [item for item in inside if _quotable(item[0].span, sources)]
        if shown:
            out.append(" " * gutter + " |\n", _FRAME)
            out.append_text(Snippet(sources[file], shown, style, gutter, width).render())

    asides = [("note", note) for note in diagnostic.notes]
    asides += [("help", diagnostic.help)] if diagnostic.help else []
    if asides and quoted:
        out.append(" " * gutter + " |\n", _FRAME)
    for kind, text in asides:
        _aside(out, kind, clean(text), gutter, width)
    return out


def concise(diagnostic: Diagnostic, name: str) -> str:
    """`file:line:col: KD101 message`, on one line. `name` is the file of a diagnostic without a place."""
    message = " ".join(clean(diagnostic.message).split("\n"))
    if diagnostic.primary is None:
        return f"{clean(name)}: {diagnostic.code} {message}"
    at = diagnostic.primary.span
    return f"{clean(at.file)}:{at.line + 1}:{at.column + 1}: {diagnostic.code} {message}"


def plain(diagnostic: Diagnostic, name: str) -> dict[str, Any]:
    """The diagnostic as plain data, by the field names that ruff uses; rows and columns count from one."""
    primary, edit = diagnostic.primary, diagnostic.edit
    fix = {"message": diagnostic.help, "edits": [{"content": edit.text, **_place(edit.span)}]} if edit else None
    return {
        "code": diagnostic.code,
        "message": covered(diagnostic.message),
        "severity": diagnostic.severity,
        **(_place(primary.span) if primary else {"filename": name, "location": None, "end_location": None}),
        "label": covered(primary.text) if primary else "",
        "related": [{"message": covered(label.text), **_place(label.span)} for label in diagnostic.secondary],
        "notes": [covered(note) for note in diagnostic.notes],
        "help": diagnostic.help and covered(diagnostic.help),
        "fix": fix,
    }


def github(diagnostic: Diagnostic, name: str) -> str:
    """A workflow command, which GitHub shows beside the line."""
    level = "notice" if diagnostic.severity == "note" else diagnostic.severity
    properties: dict[str, str | int] = {"file": name}
    if diagnostic.primary is not None:
        at = diagnostic.primary.span
        properties = {"file": at.file, "line": at.line + 1, "endLine": at.end_line + 1}
        # GitHub accepts columns only within one line, and its end column is inclusive.
        if at.line == at.end_line:
            properties |= {"col": at.column + 1, "endColumn": max(at.column + 1, at.end_column)}
    properties["title"] = diagnostic.code
    lines = [diagnostic.message, *(f"note: {note}" for note in diagnostic.notes)]
    lines += [f"help: {diagnostic.help}"] if diagnostic.help else []
    listed = ",".join(f"{key}={_escaped(str(value), ':,')}" for key, value in properties.items())
    return f"::{level} {listed}::{_escaped(covered(chr(10).join(lines)))}"


def summary(diagnostics: Sequence[Diagnostic], name: str, fixable: int = 0) -> str:
    """`3 errors, 1 warning in specs/bad.yaml (1 fixable with --fix)`, or `specs/good.yaml: fine`."""
    counts = [(sum(d.severity == severity for d in diagnostics), severity) for severity in ("error", "warning", "note")]
    listed = ", ".join(f"{count} {severity}{'s' if count > 1 else ''}" for count, severity in counts if count)
    hint = f" ({fixable} fixable with --fix)" if fixable else ""
    return f"{listed} in {clean(name)}{hint}" if listed else f"{clean(name)}: fine"


def _quotable(span: Span, sources: Mapping[str, Source]) -> bool:
    return span.file in sources and sources[span.file].shown and 0 <= span.line < len(sources[span.file].lines)


def _aside(out: Text, kind: str, text: str, gutter: int, width: int) -> None:
    out.append(" " * gutter + " = ", _FRAME).append(f"{kind}: ", "bold")
    lead = gutter + 3 + len(kind) + 2
    lines = [line for part in text.splitlines() or [""] for line in _wrapped(part, max(30, width - lead))]
    out.append(f"\n{' ' * lead}".join(lines) + "\n")


def _wrapped(text: str, width: int) -> Iterable[str]:
    """Lines of at most `width` cells, broken at spaces outside backticks, so that code can be copied."""
    parts: list[str] = []
    code = False
    for word in text.split(" "):
        if code:
            parts[-1] += f" {word}"
        else:
            parts.append(word)
        code ^= word.count("`") % 2 == 1
    line = parts[0]
    for part in parts[1:]:
        if cell_len(line) + 1 + cell_len(part) > width:
            yield line
            line = part
        else:
            line += f" {part}"
    yield line


def _place(span: Span) -> dict[str, Any]:
    return {
        "filename": span.file,
        "location": {"row": span.line + 1, "column": span.column + 1},
        "end_location": {"row": span.end_line + 1, "column": span.end_column + 1},
    }


def _escaped(text: str, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
