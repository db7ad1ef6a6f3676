"""`kdspec plan`: what would run."""

from __future__ import annotations

from typing import Annotated

import typer

from kdspec.cli.invocation import Invocation
from kdspec.hookspecs import hookimpl

_EXAMPLES = """\b
Examples:
  kdspec plan spec.yaml
  kdspec plan spec.yaml --set stages.distil.training.epochs=3
  kdspec plan spec.yaml --static
  kdspec plan spec.yaml --resolved > complete.yaml

Each stage is rehearsed on tensors without contents, which takes a few seconds
and reads no weights. --static leaves that out, and what it finds.
"""


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `plan`."""
    commands.command("plan", epilog=_EXAMPLES)(plan)


def plan(
    context: typer.Context,
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A file, or - for standard input.")],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    whole: Annotated[
        bool, typer.Option("--resolved", help="Print the complete spec as YAML, every default filled in.")
    ] = False,
    static: Annotated[
        bool, typer.Option("--static", help="Do not rehearse: no shapes, sizes, cost and memory.")
    ] = False,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Replace or add a value of the spec.")
    ] = None,
) -> None:
    """Show what would run: models, layers, losses, shapes, cost, and where each value comes from. Nothing is loaded."""
    from kdspec.cli.findings import show_reading
    from kdspec.cli.reading import read
    from kdspec.cli.rehearsing import rehearsed
    from kdspec.outline import outline
    from kdspec.rehearsal.result import as_data, settled
    from kdspec.render.plan import page
    from kdspec.resolve import resolved

    invocation: Invocation = context.obj
    if json and whole:
        raise typer.BadParameter("--json and --resolved exclude each other", param_hint="--json")
    reading = read(spec, invocation.registry, sets or ())
    rehearsal = None
    if static or whole or reading.plan is None:
        show_reading(reading, invocation.err, "full")
    else:
        rehearsal = rehearsed(invocation, reading)
    if reading.plan is None:
        raise typer.Exit(reading.exit_code)
    if whole:
        invocation.out.show(resolved(reading.plan))
        return
    if rehearsal is None:
        data = outline(reading.plan)
    else:
        data = outline(settled(reading.plan, rehearsal)) | {"rehearsal": as_data(rehearsal)}
    if json:
        invocation.out.data(data)
    else:
        invocation.out.print(page(data), soft_wrap=False)
