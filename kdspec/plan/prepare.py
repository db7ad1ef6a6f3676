"""A document to a plan: its shape checked, the plan made, rules applied to it; and all that was found on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kdspec.api.plan import Plan
from kdspec.api.spec import Spec
from kdspec.api.spec_source import SpecSource
from kdspec.diagnostics.diagnostic import Diagnostic
from kdspec.diagnostics.finding import Finding
from kdspec.plan import plan as planning
from kdspec.registry.registry import Registry
from kdspec.source.document import Document
from kdspec.spec import check


@dataclass(frozen=True)
class Prepared:
    """What came out of a document. Without errors there are a spec and a plan."""

    spec: Spec | None = None
    plan: Plan | None = None
    findings: tuple[Finding, ...] = ()
    misshapen: tuple[Diagnostic, ...] = ()
    """What is wrong with the shape of the text; then there is nothing else."""

    @property
    def errors(self) -> tuple[Finding | Diagnostic, ...]:
        """What forbids a run."""
        everything: tuple[Finding | Diagnostic, ...] = (*self.misshapen, *self.findings)
        return tuple(found for found in everything if found.severity == "error")


def prepare(document: Document, registry: Registry, *, trusts_code: bool = False) -> Prepared:
    """Check and plan a document. A mistake is in the answer, not raised.

    Args:
        document: what was read.
        registry: the components and rules.
        trusts_code: whether the models that it names may bring code.
    """
    checked = check.check(document, registry)
    if checked.spec is None:
        return Prepared(misshapen=checked.errors)
    source = SpecSource(data=document.data, folder=document.folder, trusts_code=trusts_code)
    made = planning.make(checked.spec, source, registry)
    if made.plan is None:
        return Prepared(checked.spec, findings=made.findings)
    found = tuple(dict.fromkeys((*made.findings, *_rules(made.plan, registry))))
    failed = any(finding.severity == "error" for finding in found)
    return Prepared(made.plan.spec, None if failed else made.plan, found)


def _rules(plan: Plan, registry: Registry) -> Iterator[Finding]:
    """What the rules of plugins, our own among them, say of a plan."""
    for answer in registry.plugins.call("kdspec_check", plan=plan):
        if answer.error is not None:
            who = f"{answer.plugin.distribution} ({answer.plugin.origin})"
            yield Finding(
                "KD203",
                f"the check of {who} raised {type(answer.error).__name__}: {answer.error}",
                severity="warning",
                help="its other rules were not applied; tell the plugin's author",
            )
        yield from answer.result or ()
