"""`kdspec plan`: shows what would run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.invocation import Invocation
from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan

_EXAMPLES = """\b
Examples:
  kdspec plan spec.yaml
  kdspec plan spec.yaml --set stages.distil.training.epochs=3
  kdspec plan spec.yaml --static
  kdspec plan spec.yaml --resolved > complete.yaml
  kdspec plan spec.yaml -o plan.json
  kdspec plan spec.yaml --against other.yaml

Each stage is rehearsed on meta tensors, which takes a few seconds and reads no
weights. --static skips the rehearsal and its checks.
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
        bool, typer.Option("--static", help="Do not rehearse: no shapes, sizes, cost or memory.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the plan, for `kdspec run FILE`.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="SPEC", help="Show how the plan differs from that of another spec.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Replace or add a value of the spec.")
    ] = None,
) -> None:
    """Show what would run: models, layers, losses, shapes, cost, and where each value comes from. Nothing is loaded."""
    from kdspec.cli.print_diagnostics import show_reading
    from kdspec.cli.read_spec import read
    from kdspec.cli.rehearse import rehearsed
    from kdspec.plan.outline import outline
    from kdspec.plan.resolved import resolved
    from kdspec.rehearsal.result import as_data, settled
    from kdspec.render.plan import page

    invocation: Invocation = context.obj
    if json and whole:
        raise typer.BadParameter("--json and --resolved exclude each other", param_hint="--json")
    reading = read(spec, invocation.registry, sets or (), trusts_code=invocation.trusts_code)
    rehearsal = None
    if static or whole or reading.plan is None:
        show_reading(reading, invocation.err, "full")
    else:
        rehearsal = rehearsed(invocation, reading)
    if reading.plan is None:
        raise typer.Exit(reading.exit_code)
    if output is not None:
        _write(reading.plan, output)
    if against is not None:
        _compare(invocation, reading.plan, against, json=json)
        return
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


def _write(plan: Plan, file: Path) -> None:
    from kdspec.plan import plan_file

    try:
        file.write_text(plan_file.dumps(plan, file.parent), encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DiagnosticError(Diagnostic("KD508", f"cannot write `{file}`: {reason}")) from error


def _compare(invocation: Invocation, plan: Plan, against: str, *, json: bool) -> None:
    from kdspec.cli.print_diagnostics import show_reading
    from kdspec.cli.read_spec import read
    from kdspec.plan.difference import difference
    from kdspec.plan.outline import outline

    other = read(against, invocation.registry, trusts_code=invocation.trusts_code)
    if other.plan is None:
        show_reading(other, invocation.err, "full")
        raise typer.Exit(other.exit_code)
    changes = difference(outline(other.plan), outline(plan))
    if json:
        invocation.out.data([{"path": change.path, "old": change.old, "new": change.new} for change in changes])
        return
    width = max((len(change.path) for change in changes), default=0)
    for change in changes:
        invocation.out.say(f"{change.path:<{width}}  {change.old} → {change.new}")
    if not changes:
        invocation.out.say("the plans are the same")
