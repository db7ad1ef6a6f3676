"""`kdspec runs`: what is in the folder of runs."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.invocation import Invocation

_EXAMPLES = """\b
Examples:
  kdspec runs
  kdspec runs runs/quickstart-sweep
  kdspec runs --json
"""


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `runs`."""
    commands.command("runs", epilog=_EXAMPLES)(runs)


def runs(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that contains runs.")] = Path("runs"),
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List runs: state, best validation metric, size and age; last changed first."""
    from kdspec.render.rehearsal import size
    from kdspec.render.several_runs.run_table import run_data, run_table
    from kdspec.report.comparison.compared_run import LOG
    from kdspec.report.run_list import list_runs

    invocation: Invocation = context.obj
    if (folder / LOG).is_file():
        message = f"`{folder}` is the folder of one run; `kdspec report {folder}` shows it"
        raise typer.BadParameter(message, param_hint="DIR")
    if not folder.is_dir() and folder != Path("runs"):
        raise typer.BadParameter(f"there is no folder `{folder}`", param_hint="DIR")
    found, now = list_runs(folder), datetime.now(UTC)
    if json:
        invocation.out.data([run_data(run, now) for run in found])
        return
    if not found:
        invocation.err.say(f"no runs in `{folder}`; `kdspec run spec.yaml` makes one")
        return
    invocation.out.print(run_table(found, now), soft_wrap=False)
    states = ", ".join(f"{count} {state}" for state, count in Counter(run.state for run in found).items())
    invocation.out.say(f"{states}; together {size(sum(run.bytes for run in found))}")
    if kept := sum(run.checkpoint_bytes for run in found if run.state == "finished"):
        invocation.err.say(f"{size(kept)} are checkpoints of finished runs; `kdspec clean` removes them")
