"""`kdspec plugins`: the plugin packages that kdspec has found, and whether they loaded."""

from __future__ import annotations

from typing import Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.invocation import Invocation


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `plugins`."""
    commands.command("plugins")(plugins)


def plugins(
    context: typer.Context, *, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """List the installed plugins: versions, what each provides, what failed to load and why."""
    from kdspec.render import components as render

    invocation: Invocation = context.obj
    registry = invocation.any_registry
    if json:
        invocation.out.data(render.plugin_data(registry))
    else:
        invocation.out.show(render.plugins(registry))
