"""Reads a spec file: to a plan, or to diagnostics. Findings get their lines here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from kdspec.cli.exits import ExitCode
from kdspec.cli.spec_library import to_fetch
from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.diagnostics.place import in_order, place
from kdspec.source import extends
from kdspec.source.document import Document, Source

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan
    from kdspec.api.spec.spec import Spec
    from kdspec.planning.plan_file import Saved
    from kdspec.registry.registry import Registry

_MISSING = re.compile("no (?:file|folder) `(.*)`", re.DOTALL)


@dataclass(frozen=True)
class Reading:
    """The result of reading a spec. Without errors it has a spec and a plan."""

    name: str
    diagnostics: tuple[Diagnostic, ...]
    sources: Mapping[str, Source] = field(default_factory=dict)
    document: Document | None = None
    spec: Spec | None = None
    plan: Plan | None = None

    @property
    def failed(self) -> bool:
        """Whether there are errors."""
        return any(diagnostic.severity == "error" for diagnostic in self.diagnostics)

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a command that only reads."""
        if any(diagnostic.code == "KD003" for diagnostic in self.diagnostics):
            return ExitCode.USAGE
        return ExitCode.SPEC if self.failed else ExitCode.FINE

    def place(self, findings: Iterable[Finding]) -> tuple[Diagnostic, ...]:
        """Findings about this spec, with their places in its text."""
        return place(findings, self.document)


def read(
    path: str, registry: Registry, sets: Sequence[str] = (), *, trusts_code: bool = False, untrusted: bool = False
) -> Reading:
    """Compose, check and plan the spec at `path`, `-` for standard input. Errors are in the result, not raised.

    A path that ends in `.json` is a plan from `kdspec plan -o`. What is `untrusted` is confined to its folder.
    """
    name, saved = "<stdin>" if path == "-" else path, None
    try:
        if path.endswith(".json") and untrusted:
            help_ = "a plan names its folder itself: give the spec"
            raise FindingError(Finding("KD003", f"`{path}` is a plan, which `--untrusted` does not read", help=help_))
        if path.endswith(".json"):
            from kdspec.planning import plan_file

            saved = plan_file.load(path)
            document = extends.compose(saved.spec, path, saved.folder)
        else:
            document = extends.load(path, sets, untrusted=untrusted)
    except DiagnosticError as error:
        sources = {source: Source(source, text) for source, text in error.texts.items()}
        return Reading(name, in_order(error.diagnostics), sources)
    except FindingError as error:
        return Reading(name, place(error.findings, None))
    return follow(name, document, registry, saved, trusts_code=trusts_code)


def follow(
    name: str, document: Document, registry: Registry, saved: Saved | None = None, *, trusts_code: bool = False
) -> Reading:
    """Check and plan a document. A saved plan must equal the one that its spec gives now."""
    from kdspec.planning.prepare import prepare

    made = prepare(document, registry, trusts_code=trusts_code)
    plan, found = made.plan, made.findings
    if plan is not None and saved is not None and (changed := saved.check(plan)) is not None:
        plan, found = None, (*found, changed)
    misshapen = (_fetched(each, document) for each in made.misshapen)
    diagnostics = in_order((*misshapen, *place(found, document)))
    return Reading(name, diagnostics, document.sources, document, made.spec, plan)


def _fetched(diagnostic: Diagnostic, document: Document) -> Diagnostic:
    """The same, or for a missing asset of the specs that ship with kdspec the command that fetches it."""
    path = _MISSING.fullmatch(diagnostic.message) if diagnostic.code == "KD310" else None
    command = None if path is None else to_fetch(path[1], document.folder)
    return diagnostic if command is None else replace(diagnostic, help=f"`{command}` brings it")
