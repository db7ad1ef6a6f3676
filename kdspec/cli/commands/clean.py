"""`kdspec clean`: removes the checkpoints of a run's finished stages."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.invocation import Invocation


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `clean`."""
    commands.command("clean")(clean)


def clean(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="The folder of a run, such as runs/my-run.")],
) -> None:
    """Remove the checkpoints of finished stages; models, student, log and report stay."""
    from kdspec.engine.run.lock import RunLock
    from kdspec.engine.run.run_folder import RunFolder
    from kdspec.render.rehearsal import size
    from kdspec.report import report

    invocation: Invocation = context.obj
    report.check(folder)
    run, freed = RunFolder(folder), 0
    with RunLock(folder):
        stages = sorted(place.name for place in (folder / "checkpoints").glob("*") if place.is_dir())
        for stage in run.finished(stages):
            freed += run.checkpoint_bytes(stage)
            shutil.rmtree(folder / "checkpoints" / stage)
            invocation.out.say(f"removed the checkpoints of stage {stage}")
    invocation.out.say(f"{size(freed)} freed" if freed else "there are no checkpoints of finished stages")
