"""`kdspec list`: the components that a spec can name."""

from __future__ import annotations

from typing import Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.invocation import Invocation
from kdspec.cli.kind_names import kinds_named
from kdspec.cli.shell.completion import complete_kind
from kdspec.registry.registry import KINDS


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `list`."""
    commands.command("list")(list_components)


def list_components(
    context: typer.Context,
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND",
            help="For example loss, schedule, distiller; all kinds by default.",
            autocompletion=complete_kind,
        ),
    ] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the components that a spec can name."""
    from kdspec.render import components as render

    invocation: Invocation = context.obj
    kinds = kinds_named(kind) if kind is not None else KINDS
    registry = invocation.registry
    entries = [entry for wanted in kinds for entry in registry.of_kind(wanted.kind)]
    if json:
        invocation.out.data([render.data(entry, registry) for entry in entries])
        return
    invocation.out.show(render.table(registry, kinds, invocation.out.width))
    if entries:
        first = entries[0]
        invocation.out.say(f"`kdspec show {first.component.kind} {render.called(first, registry)}` shows one in full")
    else:
        invocation.out.say(f"no plugin provides a {kinds[0].words()}")
