"""`kdspec clean`: removes the checkpoints of finished stages, and teacher caches that nothing uses any more."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.invocation import Invocation
from kdspec.cli.shell.completion import complete_run

if TYPE_CHECKING:
    from kdspec.engine.teacher_cache.catalogue import CachedTeacher

_EXAMPLES = """\b
Examples:
  kdspec clean runs/first
  kdspec clean
  kdspec clean --yes

Models, students, logs and reports stay. A finished run needs no checkpoints; a
cache that is removed is computed again when a run needs it.
"""
_UNUSED = timedelta(days=30)
"""A teacher cache that no run has opened for so long is proposed."""


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `clean`."""
    commands.command("clean", epilog=_EXAMPLES)(clean)


def clean(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN_DIR",
            help="The folder of a run, such as runs/my-run; without it all finished runs, and unused teacher caches.",
            autocompletion=complete_run,
        ),
    ] = None,
    *,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder that contains the runs.", file_okay=False)
    ] = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
) -> None:
    """Remove checkpoints of finished stages; models, student, log and report stay.

    Without RUN_DIR: list the checkpoints of all finished runs and the teacher caches that were not used for 30 days, and
    remove them if you agree.
    """
    invocation: Invocation = context.obj
    if folder is not None:
        _clean_run(invocation, folder)
        return
    _clean_all(invocation, output, yes=yes)


def _clean_run(invocation: Invocation, folder: Path) -> None:
    from kdspec.engine.run.lock import RunLock
    from kdspec.engine.run.run_folder import RunFolder
    from kdspec.render.rehearsal import size
    from kdspec.report import report

    report.check(folder)
    run, freed = RunFolder(folder), 0
    with RunLock(folder):
        stages = sorted(place.name for place in (folder / "checkpoints").glob("*") if place.is_dir())
        for stage in run.finished(stages):
            freed += run.checkpoint_bytes(stage)
            shutil.rmtree(folder / "checkpoints" / stage)
            invocation.out.say(f"removed the checkpoints of stage {stage}")
    invocation.out.say(f"{size(freed)} freed" if freed else "there are no checkpoints of finished stages")


@dataclass(frozen=True)
class _Removable:
    """What is proposed."""

    runs: Sequence[tuple[Path, int]]
    """Folders of finished runs with checkpoints, and the bytes of these."""
    caches: Sequence[CachedTeacher]

    @property
    def bytes(self) -> int:
        return sum(count for _, count in self.runs) + sum(cache.on_disk for cache in self.caches)


def _clean_all(invocation: Invocation, output: Path, *, yes: bool) -> None:
    from kdspec.data.cache_folder import cache_folder
    from kdspec.engine.teacher_cache import catalogue
    from kdspec.render.rehearsal import size

    root = cache_folder()
    found = _removable(output, root)
    if not found.runs and not found.caches:
        invocation.out.say(
            f"nothing to remove: no checkpoints of finished runs in `{output}`, no unused teacher caches"
        )
        return
    _propose(invocation, found)
    if not yes:
        _ask(invocation, f"remove them, {size(found.bytes)} in all?")
    for folder, _ in found.runs:
        invocation.out.say(f"{folder}:")
        _clean_run(invocation, folder)
    for cache in found.caches:
        catalogue.remove(root, cache.key)
        invocation.out.say(f"removed the teacher cache {cache.key[:8]}, {size(cache.on_disk)}")


def _removable(output: Path, root: Path) -> _Removable:
    from kdspec.engine.teacher_cache.catalogue import cached_teachers
    from kdspec.report.run_list import list_runs

    finished = [run for run in list_runs(output) if run.state == "finished" and run.checkpoint_bytes]
    since = (datetime.now(UTC) - _UNUSED).isoformat(timespec="seconds")
    # A cache without a readable time or with damage is of no use to a run either.
    unused = [cache for cache in cached_teachers(root) if cache.damage or cache.used < since]
    return _Removable([(run.folder, run.checkpoint_bytes) for run in finished], unused)


def _propose(invocation: Invocation, found: _Removable) -> None:
    from kdspec.render.clean import clean as safe
    from kdspec.render.rehearsal import size

    for folder, count in found.runs:
        invocation.err.say(f"{size(count):>10}  checkpoints of the finished run {safe(str(folder))}")
    for cache in found.caches:
        of = f" of {safe(cache.teacher)}" if cache.teacher else ""
        why = "damaged" if cache.damage else f"last used {cache.used[:10]}"
        invocation.err.say(f"{size(cache.on_disk):>10}  teacher cache {cache.key[:8]}{of}, {why}")


def _ask(invocation: Invocation, question: str) -> None:
    """Raise `typer.BadParameter` where nobody can be asked, and `typer.Exit` if the answer is no."""
    if not sys.stdin.isatty():
        message = "nothing was removed: standard input is no terminal, so nobody can be asked; add `--yes`"
        raise typer.BadParameter(message, param_hint="--yes")
    if not typer.confirm(question, err=True):
        invocation.err.say("nothing was removed")
        raise typer.Exit
