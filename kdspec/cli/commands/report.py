"""`kdspec report`: writes the HTML report of a run."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.invocation import Invocation
from kdspec.cli.shell.completion import complete_run


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `report`."""
    commands.command("report")(report)


def report(
    context: typer.Context,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR", help="The folder of a run, such as runs/my-run.", autocompletion=complete_run
        ),
    ],
    *,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write report.html for a run, finished or not: models, curves, plan and environment."""
    from kdspec.render.clean import clean
    from kdspec.report import report as made

    invocation: Invocation = context.obj
    found = made.read(folder)
    path = made.write(found, invocation.plugins)
    for text in found.damaged:
        invocation.err.say(f"warning: {clean(text)}")
    invocation.out.say(str(path))
    if show and not webbrowser.open(path.resolve().as_uri()):
        invocation.err.say("no browser found")
