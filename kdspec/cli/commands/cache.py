"""`kdspec cache`: computes teacher outputs before training; lists and removes caches."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.exits import ExitCode, exit_code
from kdspec.cli.invocation import Invocation
from kdspec.cli.shell.completion import complete_spec
from kdspec.diagnostics.finding import FindingError
from kdspec.render.clean import clean
from kdspec.render.rehearsal import size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from kdspec.engine.teacher_cache.catalogue import CachedFile, CachedRows, CachedTeacher
    from kdspec.events import CacheState, Event

_EXAMPLES = """\b
Examples:
  kdspec cache spec.yaml
  kdspec cache --list
  kdspec cache --remove 9dbe99
"""


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `cache`."""
    commands.command("cache", epilog=_EXAMPLES)(cache)


def cache(
    context: typer.Context,
    spec: Annotated[
        str | None,
        typer.Argument(metavar="[SPEC]", help="A file, or - for standard input.", autocompletion=complete_spec),
    ] = None,
    *,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Replace or add a value of the spec.")
    ] = None,
    output: Annotated[
        Path,
        typer.Option(metavar="DIR", help="The folder of runs, for teachers that a run has trained.", file_okay=False),
    ] = Path("runs"),
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="For example cpu or cuda:1; the first GPU by default.")
    ] = None,
    listed: Annotated[
        bool,
        typer.Option(
            "--list",
            help="List the caches on this machine: teachers, tokenised rows, mined negatives, vectors of tokens.",
        ),
    ] = False,
    remove: Annotated[
        str | None, typer.Option(metavar="KEY", help="Remove the entries whose key begins with KEY; `all` removes all.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The cache folder, for --list and --remove.", file_okay=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """Run the teachers of a spec once on all rows, before training; or list and remove caches."""
    from kdspec.spec import teacher_cache

    invocation: Invocation = context.obj
    if spec is not None:
        invocation.stop.saved = "the rows that were computed are kept: the same command computes the others"
    chosen = [name for name, given in (("SPEC", spec), ("--list", listed), ("--remove", remove)) if given]
    if len(chosen) != 1:
        named = " and ".join(chosen)
        raise typer.BadParameter(f"{named} exclude each other" if chosen else "name a SPEC, or write --list")
    if spec is not None:
        _fill(invocation, spec, sets or [], output, device)
        return
    root = folder or teacher_cache.root(None, Path())
    if remove is not None:
        _remove(invocation, root, remove)
    else:
        _list(invocation, root, json=json)


def _fill(invocation: Invocation, spec: str, sets: list[str], output: Path, device: str | None) -> None:
    from kdspec.cli.print_diagnostics import show, show_reading
    from kdspec.events import Note

    reading = invocation.read(spec, sets)
    show_reading(reading, invocation.err, "full")
    if reading.plan is None or reading.failed:
        raise typer.Exit(exit_code(reading))
    from kdspec.engine.teacher_cache.fill import fill

    def emit(event: Event) -> None:
        if isinstance(event, Note):
            invocation.err.say(f"{event.level}: {event.text}")

    with invocation.err.status("loading models and data") as status:

        def progress(state: CacheState, done: int, rows: int) -> None:
            status.update(f"teacher {state.teacher}: {done:,} of {rows:,} rows")

        found = False
        try:
            states = fill(reading.plan, invocation.registry, output=output, device=device, emit=emit, progress=progress)
            for state in states:
                found = True
                kept = f"{state.computed:,} of {state.rows:,} rows computed, {size(state.bytes)}"
                invocation.out.say(f"{state.stage}: teacher {state.teacher}, {kept} in {state.folder}")
                if not state.used:
                    raise typer.Exit(ExitCode.FAILED)
        except FindingError as error:
            invocation.trace(error)
            show(reading.place(error.findings), reading.sources, reading.name, invocation.err, "full")
            raise typer.Exit(ExitCode.FAILED) from None
    if not found:
        invocation.err.say("no stage has a frozen teacher that is cached")


def _list(invocation: Invocation, root: Path, *, json: bool) -> None:
    from kdspec.engine.teacher_cache.catalogue import cached_files, cached_rows, cached_teachers

    found, encoded, files = cached_teachers(root), cached_rows(root), cached_files(root)
    if json:
        teachers = [{"kind": "teacher", **asdict(each)} for each in found]
        rest = [{"kind": each.what, **asdict(each), "path": str(each.path)} for each in files]
        invocation.out.data(teachers + [{"kind": "rows", **asdict(each)} for each in encoded] + rest)
        return
    tables = [_teachers(found)] if found else []
    tables += [_rows(encoded)] if encoded else []
    tables += [_files(files)] if files else []
    for number, table in enumerate(tables):
        if number:
            invocation.out.say("")
        invocation.out.print(table, soft_wrap=False)
    invocation.out.say(f"{_total(found, encoded, files)}, in {root}")


def _teachers(found: Sequence[CachedTeacher]) -> Table:
    table = _table("key", "teacher", "run", "rows", "on disk", "last used", "features")
    for each in found:
        table.add_row(
            each.key[:8], clean(each.teacher), clean(each.run), f"{each.samples:,}", size(each.on_disk),
            each.used, _damaged(each.damage) or clean(", ".join(each.features)),
        )  # fmt: skip
    return table


def _rows(encoded: Sequence[CachedRows]) -> Table:
    table = _table("key", "tokenizer", "rows", "on disk", "last used", "tokenised from")
    for rows in encoded:
        row = rows.key[:8], clean(rows.tokenizer), f"{rows.rows:,}", size(rows.on_disk), rows.used
        table.add_row(*row, _damaged(rows.damage) or (f"{clean(rows.text)} ..." if rows.text else ""))
    return table


def _files(files: Sequence[CachedFile]) -> Table:
    table = _table("key", "content", "on disk", "last used")
    for file in files:
        table.add_row(file.key[:8], file.what, size(file.on_disk), file.used)
    return table


def _table(*heading: str) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row(*heading)
    return table


def _total(found: Sequence[CachedTeacher], encoded: Sequence[CachedRows], files: Sequence[CachedFile]) -> str:
    """How many caches of each kind there are, and how much of the disk they take."""
    taken = [sum(each.on_disk for each in some) for some in (found, encoded, files)]
    parts = [f"{len(found)} teacher {'cache' if len(found) == 1 else 'caches'}, {size(taken[0])}"]
    parts += [f"{len(encoded)} of tokenised rows, {size(taken[1])}"] if encoded else []
    parts += [f"{len(files)} of mined negatives and vectors, {size(taken[2])}"] if files else []
    return "; ".join([*parts, f"together {size(sum(taken))}"] if len(parts) > 1 else parts)


def _damaged(reason: str) -> str:
    return f"damaged: {clean(reason)}" if reason else ""


def _remove(invocation: Invocation, root: Path, key: str) -> None:
    from kdspec.engine.teacher_cache.catalogue import remove

    found = remove(root, "" if key == "all" else key)
    if not found and key != "all":
        raise typer.BadParameter(f"no key in {root} begins with `{key}`", param_hint="--remove")
    for each in found:
        invocation.out.say(f"removed {each.key}, {size(each.on_disk)}")
