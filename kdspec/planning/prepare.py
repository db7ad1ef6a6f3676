"""Prepares a document: checks its shape, makes the plan, applies the checks of plugins, and collects the findings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kdspec.api.plan.plan import Plan
from kdspec.api.spec.spec import Spec
from kdspec.api.spec.spec_source import SpecSource
from kdspec.diagnostics.diagnostic import Diagnostic
from kdspec.diagnostics.finding import TRACEBACK, Finding
from kdspec.planning import plan as planning
from kdspec.planning.known_models import faults_of_tasks
from kdspec.registry.registry import Registry
from kdspec.source.document import Document
from kdspec.spec import check


@dataclass(frozen=True)
class Prepared:
    """The result for a document. Without errors it has a spec and a plan."""

    spec: Spec | None = None
    plan: Plan | None = None
    findings: tuple[Finding, ...] = ()
    misshapen: tuple[Diagnostic, ...] = ()
    """Errors in the shape of the document; if there are any, there is no spec, and findings are of unknown names and of the
    data of tasks in which there are none."""

    @property
    def errors(self) -> tuple[Finding | Diagnostic, ...]:
        """The errors; a spec with errors cannot be run."""
        everything: tuple[Finding | Diagnostic, ...] = (*self.misshapen, *self.findings)
        return tuple(found for found in everything if found.severity == "error")


def prepare(document: Document, registry: Registry, *, trusts_code: bool = False) -> Prepared:
    """Check and plan a document. Errors in it are returned, not raised.

    Args:
        document: the document.
        registry: the components and checks.
        trusts_code: whether models may run code from their files.
    """
    checked = check.check(document, registry)
    variables = document.variables.knowing(registry.words)
    source = SpecSource(data=document.data, folder=document.folder, trusts_code=trusts_code, variables=variables)
    if checked.spec is None:
        shaped = None
        if all(error.code == "KD310" for error in checked.errors):
            shaped = check.check(document, registry, files=False).spec  # a missing file hides no unknown name
        named = planning.misnamed(shaped, source) if shaped else ()
        of_data = faults_of_tasks(checked.tasks, source, checked.left_out)
        return Prepared(misshapen=checked.errors, findings=(*named, *of_data))
    made = planning.make(checked.spec, source, registry)
    if made.plan is None:
        return Prepared(checked.spec, findings=made.findings)
    found = tuple(dict.fromkeys((*made.findings, *_rules(made.plan, registry))))
    failed = any(finding.severity == "error" for finding in found)
    return Prepared(made.plan.spec, None if failed else made.plan, found)


def _rules(plan: Plan, registry: Registry) -> Iterator[Finding]:
    """The findings of `kdspec_check` of all plugins, built-in ones included."""
    for called in registry.plugins.call("kdspec_check", plan=plan):
        if called.error is not None:
            who = f"{called.plugin.distribution} ({called.plugin.origin})"
            yield Finding(
                "KD203",
                f"the check of {who} raised {type(called.error).__name__}: {called.error}",
                severity="warning",
                help=f"its other rules were not applied; {TRACEBACK}",
                cause=called.error,
            )
        yield from called.result or ()
