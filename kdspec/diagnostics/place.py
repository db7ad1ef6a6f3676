"""Findings as diagnostics: the paths in a spec become spans of its text, once, for those who show them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from kdspec.diagnostics.diagnostic import Diagnostic, Edit, Label
from kdspec.diagnostics.finding import Finding, Mark, SpecPath
from kdspec.source.document import Document
from kdspec.source.foreign import silent
from kdspec.source.scalars import resolve

_BARE = re.compile(r"\w[\w.-]{0,99}")
"""Text that needs no quotes in YAML."""


def place(findings: Iterable[Finding], document: Document | None) -> tuple[Diagnostic, ...]:
    """The findings with their places in `document`; without one they have none."""
    placed = tuple(_placed(finding, document) for finding in findings)
    return placed if document is None else silent(placed, document.sources)


def in_order(found: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Each diagnostic once, in the order of the text; those without a place come last."""
    unique = dict.fromkeys(found)
    return tuple(sorted(unique, key=lambda d: (d.primary is None, d.primary.span if d.primary else ())))


def _placed(finding: Finding, document: Document | None) -> Diagnostic:
    primary: Label | None = None
    others: tuple[Label, ...] = ()
    edit: Edit | None = None
    if document is not None and finding.at is not None:
        primary = _primary(finding, finding.at, document)
        labels = (_label(mark, document) for mark in finding.also)
        others = tuple(label for label in labels if label.span != primary.span)
        edit = _edit(primary, finding.fix, document) if finding.fix is not None else None
    placed = Diagnostic(
        finding.code,
        finding.message,
        primary,
        others,
        notes=finding.notes,
        help=finding.help,
        edit=edit,
        severity=finding.severity,
        cause=finding.cause,
    )
    return placed if document is None else without_values(placed, document, finding.at or ())


def without_values(found: Diagnostic, document: Document, at: SpecPath) -> Diagnostic:
    """A diagnostic about a place of a document, with `${NAME}` in place of the values of variables."""
    variables = document.variables
    if not variables.values:
        return found
    hide = partial(variables.hide_at, at)
    labels = tuple(replace(label, text=hide(label.text)) for label in found.secondary)
    return replace(
        found,
        message=hide(found.message),
        primary=found.primary and replace(found.primary, text=hide(found.primary.text)),
        secondary=labels,
        notes=tuple(map(hide, found.notes)),
        help=found.help and hide(found.help),
        edit=found.edit and replace(found.edit, text=hide(found.edit.text)),
    )


def _primary(finding: Finding, at: SpecPath, document: Document) -> Label:
    if finding.part is None:
        return _label(Mark(at, finding.label, finding.key), document)
    if at in document.values:
        return Label(document.inside(at, *finding.part), finding.label)
    return _label(Mark(at), document)


def _label(mark: Mark, document: Document) -> Label:
    """Point at the value, or its key; the nearest outer one where it is not written.

    A value of several lines is pointed at by its key. A short form is pointed at where the path goes on inside it.
    """
    found = document.locate(mark.at)
    span = document.values[found]
    short = not document.has_entries(found)
    whole = (len(found) == len(mark.at) or short) and span.line == span.end_line
    return Label(document.keys[found] if found in document.keys and (mark.key or not whole) else span, mark.text)


def _edit(label: Label, fix: tuple[str, str], document: Document) -> Edit | None:
    """Put the new text in the place of the old, unless something else is written there."""
    (old, new), span = fix, label.span
    written = document.sources[span.file].lines[span.line][span.column : span.end_column]
    bare = written[1:-1] if written[:1] in {"'", '"'} else written
    if span.line != span.end_line or bare != old:
        return None
    return Edit(
        span, new if _BARE.fullmatch(new) and isinstance(resolve(new), str) else json.dumps(new, ensure_ascii=False)
    )
