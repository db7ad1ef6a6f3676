"""`kdspec bench`: the speed and memory of the models of a finished run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.exits import ExitCode
from kdspec.cli.invocation import Invocation
from kdspec.cli.shell.completion import complete_run
from kdspec.diagnostics.finding import FindingError

_EXAMPLES = """\b
Examples:
  kdspec bench runs/my-run
  kdspec bench runs/my-run --batch-size 8 --device cpu --json
"""


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `bench`."""
    commands.command("bench", epilog=_EXAMPLES)(bench)


def bench(
    context: typer.Context,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR", help="The folder of a run, such as runs/my-run.", autocompletion=complete_run
        ),
    ],
    *,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows per batch, for throughput and memory.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="How often the throughput is measured.")] = 5,
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="For example cpu or cuda:1; the first GPU by default.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Compare teacher and student of a finished run: latency, throughput and memory on rows of its data."""
    import torch

    from kdspec.cli.commands.one_run.finished_run import finished_run
    from kdspec.cli.commands.run import check_device
    from kdspec.cli.print_diagnostics import show
    from kdspec.engine.evaluation.benchmark import measure
    from kdspec.render.speed import caption, table

    invocation: Invocation = context.obj
    if device is not None:
        check_device(device)
    run = finished_run(invocation, folder)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with invocation.err.status("loading models and data") as status:

        def tell(model: str) -> None:
            status.update(f"measuring {model}")

        try:
            found = measure(run.plan, run.folder, device=where, batch_size=batch_size, rounds=rounds, tell=tell)
        except FindingError as error:
            invocation.trace(error)
            reading = run.reading
            show(reading.place(error.findings), reading.sources, reading.name, invocation.err, "full")
            raise typer.Exit(ExitCode.FAILED) from None
    machine = {"device": str(where), "threads": torch.get_num_threads(), "batch_size": batch_size}
    rows = [asdict(each) for each in found]
    if json:
        invocation.out.data({**machine, "models": rows})
        return
    invocation.out.print(table(rows), soft_wrap=False)
    invocation.out.say(caption(rows, machine))
