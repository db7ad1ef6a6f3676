"""`kdspec compare`: several runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.invocation import Invocation
from kdspec.diagnostics.finding import Finding, FindingError

if TYPE_CHECKING:
    from kdspec.report.comparison.variant import RunComparison

_EXAMPLES = """\b
Examples:
  kdspec compare runs/first runs/hotter
  kdspec compare runs/quickstart-sweep --html comparison.html
  kdspec compare runs --json

A folder that contains runs stands for all of them. Runs that differ only in
`seed` and `name` are one variant, with mean and standard deviation.
"""


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `compare`."""
    commands.command("compare", epilog=_EXAMPLES)(compare)


def compare(
    context: typer.Context,
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN_DIR", help="Folders of runs, or folders that contain runs, such as runs."),
    ],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with curves.", dir_okay=False)] = None,
) -> None:
    """Compare runs, finished or not: what differs in their specs, metrics, cost, sizes and curves."""
    from kdspec.engine.run.durable_files import atomic_write
    from kdspec.render.comparison import as_data, open_lines
    from kdspec.report.comparison import variant
    from kdspec.report.comparison.compared_run import read_run
    from kdspec.report.comparison.comparison_page import comparison_page

    invocation: Invocation = context.obj
    folders = run_folders(runs)
    if len(folders) < 2:
        message = f"there is only one run to compare: {folders[0]}; `kdspec report {folders[0]}` shows it"
        raise typer.BadParameter(message, param_hint="RUN_DIR")
    found = variant.compare(map(read_run, folders))
    if html is not None:
        atomic_write(html, comparison_page(found, f"Comparison of {len(folders)} runs"))
    if json:
        invocation.out.data(as_data(found))
    else:
        show_comparison(invocation, found)
    for line in open_lines(found):
        invocation.err.say(line)
    if html is not None:
        invocation.err.say(f"page: {html}")


def show_comparison(invocation: Invocation, found: RunComparison) -> None:
    """Print the figures of several runs, and what differs between them."""
    from kdspec.render import comparison as render

    invocation.out.print(render.table(found), soft_wrap=False)
    if (differs := render.differences(found)) is not None:
        invocation.out.print(differs, soft_wrap=False)
    for text in filter(None, (render.common(found), render.caption(found))):
        invocation.out.say(text)


def run_folders(given: list[Path]) -> list[Path]:
    """The folders of runs, each once; a folder that is none stands for the runs in it.

    Raises:
        FindingError: KD003 for a folder that is not there, or has no runs.
    """
    from kdspec.report.comparison.compared_run import LOG

    found: dict[Path, Path] = {}
    for folder in given:
        if not folder.is_dir():
            help_ = "name folders such as `runs/my-run`"
            raise FindingError(Finding("KD003", f"there is no folder `{folder}`", help=help_))
        inside = [folder] if (folder / LOG).is_file() else sorted(log.parent for log in folder.glob(f"*/{LOG}"))
        if not inside:
            message = f"`{folder}` is not the folder of a run, and contains none: there is no `{LOG}`"
            raise FindingError(Finding("KD003", message, help="name folders such as `runs/my-run`"))
        for each in inside:
            found.setdefault(each.resolve(), each)
    return list(found.values())
