"""`kdspec schema`: the JSON Schema for completion and checks in an editor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.invocation import Invocation

_USE = """\b
Editors with a YAML language server complete and check a spec that begins with this line:
  # yaml-language-server: $schema=kdspec.schema.json
"""


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `schema`."""
    commands.command("schema", epilog=_USE)(schema)


def schema(
    context: typer.Context,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to a file, not to standard output.")
    ] = None,
    bare: Annotated[bool, typer.Option("--bare", help="Built-in components only, without installed plugins.")] = False,
) -> None:
    """Print the JSON Schema of a spec, with the components of all installed packages."""
    from kdspec import load_registry
    from kdspec.spec import json_schema as schemas

    invocation: Invocation = context.obj
    text = schemas.text(load_registry(installed=False) if bare else invocation.registry)
    if output is None:
        invocation.out.show(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise typer.BadParameter(f"`{output}` cannot be written: {reason}", param_hint="--output") from error
    invocation.err.say(f"wrote {output}")
