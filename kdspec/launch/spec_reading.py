"""Reads a spec file: to a plan, or to diagnostics. Findings get their lines here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.diagnostics.place import in_order, place
from kdspec.launch.shipped_specs import to_fetch
from kdspec.source import extends
from kdspec.source.document import Document, Source, parse

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
    def unreadable(self) -> bool:
        """Whether a file cannot be read."""
        return any(diagnostic.code == "KD003" for diagnostic in self.diagnostics)

    def place(self, findings: Iterable[Finding]) -> tuple[Diagnostic, ...]:
        """Findings about this spec, with their places in its text."""
        return place(findings, self.document)


def read(
    path: str, registry: Registry, sets: Sequence[str] = (), *, trusts_code: bool = False, untrusted: bool = False
) -> Reading:
    """Compose, check and plan the spec at `path`, `-` for standard input. Errors are in the result, not raised.

    A path that ends in `.json` is a plan from `kdspec plan -o`. What is `untrusted` is confined to its folder.
    """
    name = "<stdin>" if path == "-" else path
    try:
        if path.endswith(".json") and untrusted:
            help_ = "a plan names its folder itself: give the spec"
            raise FindingError(Finding("KD003", f"`{path}` is a plan, which `--untrusted` does not read", help=help_))
        if path.endswith(".json"):
            from kdspec.planning import plan_file

            saved = plan_file.load(path)
            document = extends.compose(saved.spec, path, saved.folder)
            return follow(name, document, registry, saved, trusts_code=trusts_code)
        document = extends.load(path, sets, untrusted=untrusted)
    except DiagnosticError as error:
        return unread(name, error)
    except FindingError as error:
        return Reading(name, place(error.findings, None))
    return follow(name, document, registry, trusts_code=trusts_code)


def read_text(
    text: str, name: str, registry: Registry, sets: Sequence[str] = (), *, trusts_code: bool = False
) -> Reading:
    """Compose, check and plan a spec that has no file. Its relative paths start in the working folder."""
    try:
        document = extends.compose(text, name, Path(), sets)
    except DiagnosticError as error:
        return unread(name, error)
    return follow(name, document, registry, trusts_code=trusts_code)


def read_run(folder: Path, registry: Registry, *, trusts_code: bool = False) -> Reading:
    """Plan the spec of a run, in the run's folder.

    Raises:
        FindingError: KD003 if the folder has no plan, or it is damaged.
    """
    from kdspec.engine.run.run_folder import RunFolder

    run, name = RunFolder(folder), str(folder / "spec.yaml")
    if (origin := run.origin) is None:
        message = f"the run in `{folder}` has no `plan.json`, which says where the paths of its spec begin"
        raise FindingError(Finding("KD003", message, help="name the folder of the model, such as its `student`"))
    document = parse(run.text("spec.yaml") or "", name, origin)
    return follow(name, document, registry, trusts_code=trusts_code)


def unread(name: str, error: DiagnosticError) -> Reading:
    """The reading of a spec of which there is no document."""
    sources = {source: Source(source, text) for source, text in error.texts.items()}
    return Reading(name, in_order(error.diagnostics), sources)


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
