"""`kdspec plan`: shows what would run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.exits import exit_code
from kdspec.cli.invocation import Invocation
from kdspec.cli.shell.completion import complete_spec
from kdspec.diagnostics.diagnostic import Diagnostic, DiagnosticError

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan
    from kdspec.launch.spec_reading import Reading
    from kdspec.rehearsal.result import Rehearsal

_EXAMPLES = """\b
Examples:
  kdspec plan spec.yaml
  kdspec plan spec.yaml --set stages.distil.training.epochs=3
  kdspec plan spec.yaml --rows
  kdspec plan spec.yaml --static
  kdspec plan spec.yaml --resolved > complete.yaml
  kdspec plan spec.yaml -o plan.json
  kdspec plan spec.yaml --against other.yaml

Each stage is rehearsed on meta tensors, which takes a few seconds and reads no
weights. --static skips the rehearsal and its checks. --rows reads the data and
the tokenizers too.
"""


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `plan`."""
    commands.command("plan", epilog=_EXAMPLES)(plan)


def plan(
    context: typer.Context,
    spec: Annotated[
        str, typer.Argument(metavar="SPEC", help="A file, or - for standard input.", autocompletion=complete_spec)
    ],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    whole: Annotated[
        bool, typer.Option("--resolved", help="Print the complete spec as YAML, every default filled in.")
    ] = False,
    static: Annotated[
        bool, typer.Option("--static", help="Do not rehearse: no shapes, sizes, cost or memory.")
    ] = False,
    rows: Annotated[
        bool,
        typer.Option(
            "--rows", help="Read the rows: labels, lengths, what looks wrong, and the first as models read it."
        ),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the plan, for `kdspec run FILE`.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC", help="Show how the plan differs from that of another spec.", autocompletion=complete_spec
        ),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Replace or add a value of the spec.")
    ] = None,
) -> None:
    """Show what would run: models, layers, losses, shapes, cost, and where each value comes from. Nothing is loaded."""
    from kdspec.cli.print_diagnostics import show_reading
    from kdspec.cli.rehearse import rehearsed
    from kdspec.planning.outline import outline
    from kdspec.planning.resolved import resolved
    from kdspec.rehearsal.result import as_data, settled

    invocation: Invocation = context.obj
    _check_options(json=json, whole=whole, compares=against is not None, rows=rows)
    reading = invocation.read(spec, sets or ())
    rehearsal = None
    if static or whole or reading.plan is None:
        show_reading(reading, invocation.err, "full")
    else:
        rehearsal = rehearsed(invocation, reading)
    if reading.plan is None:
        raise typer.Exit(exit_code(reading))
    if output is not None:
        _write(reading.plan, output)
    if against is not None:
        _compare(invocation, reading.plan, against, json=json)
        return
    if whole:
        invocation.out.show(resolved(reading.plan))
        return
    data = outline(reading.plan if rehearsal is None else settled(reading.plan, rehearsal))
    if rehearsal is not None:
        data["rehearsal"] = as_data(rehearsal)
        for name, hints in _speed_hints(reading.plan, rehearsal).items():
            data["rehearsal"]["stages"][name]["hints"] = hints
    data |= {"rows": _rows(invocation, reading)} if rows else {}
    _show(invocation, data, json=json)


def _check_options(*, json: bool, whole: bool, compares: bool, rows: bool) -> None:
    """Raise `typer.BadParameter` for options that exclude each other."""
    if rows and (whole or compares):
        raise typer.BadParameter("excludes `--resolved` and `--against`", param_hint="--rows")
    if json and whole:
        raise typer.BadParameter("--json and --resolved exclude each other", param_hint="--json")


def _show(invocation: Invocation, data: dict[str, Any], *, json: bool) -> None:
    from kdspec.render.plan import page
    from kdspec.render.rows import rows_page

    if json:
        invocation.out.data(data)
        return
    data = invocation.out.variables.hide_in(data)
    invocation.out.print(page(data), soft_wrap=False)
    if "rows" in data:
        invocation.out.print(rows_page(data["rows"]), soft_wrap=False)


def _speed_hints(plan: Plan, rehearsal: Rehearsal) -> dict[str, tuple[str, ...]]:
    """What would make stages faster, if `kdspec doctor` has measured this processor, and it is what trains."""
    from kdspec.engine.machine.processor_speed import kept
    from kdspec.rehearsal.speed_hints import speed_hints
    from kdspec.rehearsal.stage_rehearsal import has_gpu

    speed = None if has_gpu() else kept()
    return {} if speed is None else speed_hints(plan, rehearsal, speed)


def _rows(invocation: Invocation, reading: Reading) -> dict[str, Any]:
    """What is known of the rows, as data; what looks wrong is printed, and errors end the command."""
    from kdspec.cli.print_diagnostics import show_reading
    from kdspec.engine.preflight.facts import as_data
    from kdspec.engine.preflight.planned_rows import look_at_rows

    assert reading.plan is not None, "without a plan the command has ended"
    with invocation.err.status("reading rows"):
        looked = look_at_rows(reading.plan)
    found = replace(reading, diagnostics=reading.place(looked.findings))
    show_reading(found, invocation.err, "full")
    if found.failed:
        raise typer.Exit(exit_code(found))
    return as_data(looked.tasks)


def _write(plan: Plan, file: Path) -> None:
    from kdspec.planning import plan_file

    try:
        file.write_text(plan_file.dumps(plan, file.parent), encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DiagnosticError(Diagnostic("KD508", f"cannot write `{file}`: {reason}")) from error


def _compare(invocation: Invocation, plan: Plan, against: str, *, json: bool) -> None:
    from kdspec.cli.print_diagnostics import show_reading
    from kdspec.planning.difference import difference
    from kdspec.planning.outline import outline

    other = invocation.read(against)
    if other.plan is None:
        show_reading(other, invocation.err, "full")
        raise typer.Exit(exit_code(other))
    changes = difference(outline(other.plan), outline(plan))
    if json:
        invocation.out.data([{"path": change.path, "old": change.old, "new": change.new} for change in changes])
        return
    width = max((len(change.path) for change in changes), default=0)
    for change in changes:
        invocation.out.say(f"{change.path:<{width}}  {change.old} → {change.new}")
    if not changes:
        invocation.out.say("the plans are the same")
