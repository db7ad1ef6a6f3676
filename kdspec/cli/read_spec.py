"""A spec file read as far as it goes: to a plan, or to what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kdspec.cli.exits import ExitCode
from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError
from kdspec.source import extends
from kdspec.source.document import Document, Source, parse
from kdspec.spec import check

if TYPE_CHECKING:
    from kdspec.plan.plan import Plan
    from kdspec.plan.plan_file import Saved
    from kdspec.registry.registry import Registry
    from kdspec.spec.spec import Spec


@dataclass(frozen=True)
class Reading:
    """What came out of a spec. Without errors there are a spec and a plan."""

    name: str
    diagnostics: tuple[Diagnostic, ...]
    sources: Mapping[str, Source]
    spec: Spec | None = None
    plan: Plan | None = None

    @property
    def failed(self) -> bool:
        """Whether there are errors."""
        return any(diagnostic.severity == "error" for diagnostic in self.diagnostics)

    @property
    def exit_code(self) -> ExitCode:
        """What a command that only reads would end with."""
        if any(diagnostic.code == "KD003" for diagnostic in self.diagnostics):
            return ExitCode.USAGE
        return ExitCode.SPEC if self.failed else ExitCode.FINE


def read(path: str, registry: Registry, sets: Sequence[str] = (), *, trusts_code: bool = False) -> Reading:
    """Compose, check and plan the spec at `path`, `-` for standard input. A mistake is in the answer, not raised.

    A path that ends in `.json` is a plan that `kdspec plan -o` has written.
    """
    name, saved = "<stdin>" if path == "-" else path, None
    try:
        if path.endswith(".json"):
            from kdspec.plan import plan_file

            saved = plan_file.load(path)
            document = parse(saved.spec, path, saved.folder)
        else:
            document = extends.load(path, sets)
    except DiagnosticError as error:
        sources = {source: Source(source, text) for source, text in error.texts.items()}
        return Reading(name, _in_order(error.diagnostics), sources)
    return follow(name, replace(document, trusts_code=trusts_code), registry, saved)


def follow(name: str, document: Document, registry: Registry, saved: Saved | None = None) -> Reading:
    """Check and plan a document; a plan that was saved must still be the one that it comes to."""
    checked = check.check(document, registry)
    if checked.spec is None or checked.errors:
        return Reading(name, checked.diagnostics, document.sources, checked.spec)
    from kdspec.plan import plan

    try:
        made, found = plan.make(checked.spec, registry)
        if made is not None and saved is not None and (changed := saved.check(made)) is not None:
            made, found = None, (*found, changed)
    except DiagnosticError as error:
        made, found = None, error.diagnostics
    return Reading(name, _in_order((*checked.diagnostics, *found)), document.sources, checked.spec, made)


def _in_order(found: Sequence[Diagnostic]) -> tuple[Diagnostic, ...]:
    return tuple(sorted(dict.fromkeys(found), key=lambda d: (d.primary is None, d.primary.span if d.primary else ())))
