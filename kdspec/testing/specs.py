"""Specs in tests: check, plan and run a spec from its text, with only the plugins that are passed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError
from kdspec.diagnostics.finding import FindingError
from kdspec.diagnostics.place import in_order, place
from kdspec.planning.prepare import prepare
from kdspec.registry.registry import Registry, load_registry
from kdspec.source.extends import compose

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan
    from kdspec.api.spec.spec import Spec
    from kdspec.engine.run.session import Result
    from kdspec.source.document import Document

NAME = "spec.yaml"
"""The name of the text in diagnostics."""


@dataclass(frozen=True)
class Checked:
    """What came out of a spec: without errors there are a spec and a plan."""

    spec: Spec | None
    plan: Plan | None
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that forbid a run."""
        return tuple(found for found in self.diagnostics if found.severity == "error")


def registry(*extra: Any) -> Registry:
    """A registry of the built-ins and `extra` (plugin modules, component classes or files), without installed plugins.

    Raises:
        AssertionError: one of `extra` failed to load.
    """
    made = load_registry(*extra, installed=False)
    assert not made.problems, "; ".join(f"{problem.name}: {problem.reason}" for problem in made.problems)
    return made


def check(text: str, *plugins: Any, folder: str | Path = ".", sets: Sequence[str] = ()) -> Checked:
    """The diagnostics of `kdspec validate` for a spec. Errors are in the result; only errors of YAML are raised.

    Args:
        text: the spec; environment variables in it have their defaults.
        plugins: plugin modules, component classes or files; installed plugins are not used.
        folder: where relative paths in the spec start.
        sets: arguments of `--set`.

    Raises:
        DiagnosticError: the text cannot be parsed: KD0xx.
    """
    return _prepared(text, registry(*plugins), folder, sets)[0]


def plan(text: str, components: Registry, *, folder: str | Path = ".", sets: Sequence[str] = ()) -> Plan:
    """The plan of a spec with an existing registry, for several specs or for a `Session`.

    The other arguments are those of `check`.

    Raises:
        DiagnosticError: the spec has errors.
    """
    checked, _ = _prepared(text, components, folder, sets)
    if checked.plan is None:
        raise DiagnosticError(*checked.errors)
    return checked.plan


def run(
    text: str,
    output: str | Path,
    *plugins: Any,
    folder: str | Path = ".",
    sets: Sequence[str] = (),
    restart: bool = False,
) -> Result:
    """Run a spec on the CPU, as `kdspec run` does; its run folder is created in `output`.

    The other arguments are those of `check`. With the same text and `output` an earlier run is resumed, unless `restart`
    is set.

    Raises:
        DiagnosticError: the spec has errors, or the run fails: KD5xx.
    """
    from kdspec.engine.run.session import Session

    found = registry(*plugins)
    checked, document = _prepared(text, found, folder, sets)
    if checked.plan is None:
        raise DiagnosticError(*checked.errors)
    try:
        return Session(checked.plan, found, output=Path(output), restart=restart, device="cpu").run()
    except FindingError as error:
        raise DiagnosticError(*place(error.findings, document)) from error


def _prepared(text: str, components: Registry, folder: str | Path, sets: Sequence[str]) -> tuple[Checked, Document]:
    document = compose(text, NAME, Path(folder), sets, environ={})
    made = prepare(document, components)
    diagnostics = in_order((*made.misshapen, *place(made.findings, document)))
    return Checked(made.spec, made.plan, diagnostics), document
