"""The hooks that a plugin can implement."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from kdspec.api.component import Component
    from kdspec.api.plan.plan import Plan
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
    """Return component classes: everything that a spec can name.

    Called once when plugins are loaded. A class that is not documented, has no name or shadows a built-in is reported.
    """


@hookspec
def kdspec_check(plan: Plan) -> Iterable[Finding]:  # type: ignore[empty-body]  # plugins have the bodies
    """Find errors in a plan, and settings without effect.

    Called when every name of the spec is resolved; the plan may have other errors. A finding has its path in the spec;
    `plan.source` is the data as written. Torch must not be imported here.
    """


@hookspec
def kdspec_observe(event: Event, session: Any) -> None:
    """Observe an event of a run, for progress, logs and trackers. It cannot change the run.

    Called for every event of `kdspec.events`, in order, in the process of rank 0. An observer that raises is reported
    once with its package and not called again in this run. `session.folder` is the run's folder, `session.kept` a
    mapping for data needed from one event to the next, and `session.at_end.callback(close)` registers a function that is
    called when the run ends, also after an error; a finished run has its `table.json` and `report.html` then. `session.track`
    has the names of `--track`: a tracker observes only if its own, that of its entry point, is among them; `Tracker.observe`
    sees to that.
    """


@hookspec
def kdspec_report(report: Report) -> Iterable[Section]:  # type: ignore[empty-body]  # plugins have the bodies
    """Add sections to the report of a run."""


@hookspec
def kdspec_commands(commands: Any) -> None:
    """Add commands to the command line: `commands` is the `typer.Typer` that has the built-in ones."""
