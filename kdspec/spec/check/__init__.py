"""Validates a document into a spec, or into diagnostics of all errors in its shape, each at its place."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from kdspec.api.spec.spec import Spec
from kdspec.diagnostics.diagnostic import Diagnostic, Label, Span
from kdspec.registry.registry import Registry
from kdspec.source.document import Document
from kdspec.spec.check.pydantic_errors import explain

__all__ = ["Checked", "check"]


@dataclass(frozen=True)
class CheckedSpec:
    """A spec, or the errors in the shape of the document."""

    spec: Spec | None
    errors: tuple[Diagnostic, ...] = ()


def check(document: Document, registry: Registry, *, files: bool = True) -> CheckedSpec:
    """Validate a document: its keys, its values and the names of its components; with `files`, that those it names exist."""
    if document.data is None:
        label = Label(
            document.values.get((), Span(next(iter(document.sources)), 0, 0, 0, 0)), "nothing is written here"
        )
        empty = Diagnostic("KD102", "the spec is empty", label, help="a spec begins with `kdspec: 1`")
        return CheckedSpec(None, (empty,))
    try:
        folder = document.folder if files else None
        context = {"registry": registry, "folder": folder, "within": document.within}
        spec = Spec.model_validate(document.data, context=context)
    except ValidationError as error:
        return CheckedSpec(None, explain(error.errors(include_url=False), document, registry))
    return CheckedSpec(spec)
