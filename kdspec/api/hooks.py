"""The hooks: everything that a plugin can do, in one page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from kdspec.api.component import Component
    from kdspec.api.plan import Plan
    from kdspec.api.report import Report, Section
    from kdspec.diagnostics.finding import Finding
    from kdspec.events import Event

API_VERSION = 1
"""A plugin module may state `KDSPEC_API = 1`; one that states another version is refused, with both versions named."""

PROJECT = "kdspec"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def kdspec_components() -> Iterable[type[Component]]:  # type: ignore[empty-body]  # plugins have the bodies
    """Hand over component classes: everything that a spec can name.

    Called once when plugins are loaded. A class that is not documented, has no name or shadows a built-in is reported.
    """


@hookspec
def kdspec_check(plan: Plan) -> Iterable[Finding]:  # type: ignore[empty-body]  # plugins have the bodies
    """Find what is wrong with a plan, or has no effect in it.

    Called when every name of the spec is resolved, though other things may be wrong with it. A finding has its path in
    the spec; `plan.source` is what was written there. Torch must not be imported here.
    """


@hookspec
def kdspec_observe(event: Event, session: Any) -> None:
    """Look at something that happened in a run: progress, logs, trackers. Never steers.

    Called for every event of `kdspec.events`, in order, in the process of rank 0. An observer that raises is reported
    once with its package and not called again in this run. `session.folder` is the run's folder, `session.kept` a
    mapping for what is needed from one event to the next, and `session.at_end.callback(close)` closes what was opened,
    however the run ends.
    """


@hookspec
def kdspec_report(report: Report) -> Iterable[Section]:  # type: ignore[empty-body]  # plugins have the bodies
    """Add sections to the report of a run."""


@hookspec
def kdspec_commands(commands: Any) -> None:
    """Add commands to the command line: `commands` is the `typer.Typer` that holds our own, registered the same way."""
