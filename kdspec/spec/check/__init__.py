"""Text and registry to a spec, or to diagnostics: every mistake of shape at once, each at its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from kdspec.diagnostics.diagnostic import Diagnostic, Label, Span
from kdspec.registry.registry import Registry
from kdspec.source.document import Document
from kdspec.spec.check.logits import fitted
from kdspec.spec.check.pydantic_errors import explain, in_order
from kdspec.spec.spec import Spec

__all__ = ["Checked", "check", "in_order"]


@dataclass(frozen=True)
class Checked:
    """What a check found: a spec unless there are errors."""

    document: Document
    spec: Spec | None
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that forbid a run."""
        return tuple(d for d in self.diagnostics if d.severity == "error")


def check(document: Document, registry: Registry) -> Checked:
    """Validate a document: its shape and names first; then, if these hold, the rules that plugins add."""
    context = {"registry": registry, "folder": document.folder}
    if document.data is None:
        label = Label(document.values.get((), Span(next(iter(document.sources)), 0, 0, 0, 0)), "nothing to be read")
        empty = Diagnostic("KD102", "the spec is empty", label, help="a spec begins with `kdspec: 1`")
        return Checked(document, None, (empty,))
    try:
        spec = Spec.model_validate(document.data, context=context)
    except ValidationError as error:
        return Checked(document, None, explain(error.errors(include_url=False), document, registry))
    spec.attach(document)
    spec, found = fitted(spec, registry)
    return Checked(document, spec, in_order((*found, *_rules(spec, registry))))


def _rules(spec: Spec, registry: Registry) -> Iterable[Diagnostic]:
    for answer in registry.plugins.call("kdspec_check", spec=spec, registry=registry):
        if answer.error is not None:
            who = f"{answer.plugin.distribution} ({answer.plugin.origin})"
            yield Diagnostic(
                "KD203",
                f"the check of {who} raised {type(answer.error).__name__}: {answer.error}",
                severity="warning",
                help="its other rules were not applied; tell the plugin's author",
            )
        yield from answer.result or ()
