"""A session with its progress on a console, and the report of its run."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Collection
from typing import TYPE_CHECKING

from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.registry.plugins import Plugin
from kdspec.render.formats import Detail
from kdspec.render.progress import Progress
from kdspec.report import report

if TYPE_CHECKING:
    from rich.console import Console

    from kdspec.engine.run.session import Result, Session
    from kdspec.registry.plugins import Plugins


def observed(session: Session, console: Console, told: Collection[str] = (), *, detail: Detail = "normal") -> Result:
    """Run a session and print its progress; `told` are notes that were printed before. Raises what `Session.run` does."""
    plugins = session.registry.plugins
    with Progress(console, told=told, detail=detail) as progress:
        version = importlib.metadata.version("kdspec")
        plugins.add(Plugin("kdspec", version, "progress", "kdspec.render.progress", progress))
        return session.run()


def write_report(result: Result, plugins: Plugins) -> tuple[Finding, ...]:
    """Write the report of a run; what is wrong with it, if it cannot be written. The run has succeeded all the same."""
    try:
        report.write(report.read(result.folder), plugins)
    except FindingError as error:
        return error.findings
    return ()
