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


def observed(
    session: Session, console: Console, told: Collection[str] = (), *, detail: Detail = "normal"
) -> tuple[Result, tuple[Finding, ...]]:
    """Run a session, print its progress, and write its report.

    Args:
        session: of the run.
        console: where the progress is printed.
        told: notes that were printed before.
        detail: how much is printed.

    Returns:
        The result, and why the report could not be written: the run has succeeded all the same.

    Raises:
        FindingError, Interrupted: as `Session.run`.
    """
    plugins, unwritten = session.registry.plugins, list[Finding]()

    def write() -> None:
        try:
            report.write(report.read(session.folder), plugins)
        except FindingError as error:
            unwritten.extend(error.findings)

    session.when_finished = write
    with Progress(console, told=told, detail=detail) as progress:
        version = importlib.metadata.version("kdspec")
        plugins.add(Plugin("kdspec", version, "progress", "kdspec.render.progress", progress))
        return session.run(), tuple(unwritten)
