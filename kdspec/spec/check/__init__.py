"""Text and registry to a spec, or to what is wrong with its shape: every mistake at once, each at its place."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from kdspec.api.spec import Spec
from kdspec.diagnostics.diagnostic import Diagnostic, Label, Span
from kdspec.registry.registry import Registry
from kdspec.source.document import Document
from kdspec.spec.check.pydantic_errors import explain

__all__ = ["Checked", "check"]


@dataclass(frozen=True)
class Checked:
    """A spec, or what is wrong with the shape of the text."""

    spec: Spec | None
    errors: tuple[Diagnostic, ...] = ()


def check(document: Document, registry: Registry) -> Checked:
    """Validate a document: its keys and values, and that components have the names that it uses."""
    if document.data is None:
        label = Label(document.values.get((), Span(next(iter(document.sources)), 0, 0, 0, 0)), "nothing to be read")
        empty = Diagnostic("KD102", "the spec is empty", label, help="a spec begins with `kdspec: 1`")
        return Checked(None, (empty,))
    try:
        spec = Spec.model_validate(document.data, context={"registry": registry, "folder": document.folder})
    except ValidationError as error:
        return Checked(None, explain(error.errors(include_url=False), document, registry))
    return Checked(spec)
