"""`kdspec validate`: the diagnostics of a spec."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdspec.api.hooks import hookimpl
from kdspec.cli.exits import exit_code
from kdspec.cli.invocation import Invocation
from kdspec.cli.shell.completion import complete_spec
from kdspec.render.formats import Format

if TYPE_CHECKING:
    from kdspec.launch.spec_reading import Reading

_EXAMPLES = """\b
Examples:
  kdspec validate specs/
  kdspec validate spec.yaml --set stages.distil.training.epochs=3
  kdspec validate spec.yaml --fix
"""
# Each round of fixes may reveal errors that the earlier ones had hidden.
_ROUNDS = 10
_IS_SPEC = re.compile(r"""^(?:\{\s*+|[ \t]*+)['"]?kdspec['"]?[ \t]*+:""", re.MULTILINE)
_EXTENDS = re.compile(r"""^extends\s*:((?:[^\n#]|\n\s*-)*)""", re.MULTILINE)
_BASES = re.compile(r"""[^\s\[\],'"]++""")


@hookimpl
def kdspec_commands(commands: typer.Typer) -> None:
    """Add `validate`."""
    commands.command("validate", epilog=_EXAMPLES)(validate)


def validate(
    context: typer.Context,
    specs: Annotated[
        list[str],
        typer.Argument(
            metavar="SPEC",
            help="Files, folders to search for specs, or - for standard input.",
            autocompletion=complete_spec,
        ),
    ],
    *,
    format_: Annotated[Format, typer.Option("--format", help="How to print diagnostics.")] = "full",
    fix: Annotated[bool, typer.Option("--fix", help="Apply safe corrections to the files.")] = False,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Replace or add a value of the spec.")
    ] = None,
) -> None:
    """Check specs and print their errors, each with its place and fix. Nothing is run or loaded."""
    from kdspec.cli import apply_fixes
    from kdspec.render import diagnostics as render

    invocation: Invocation = context.obj
    if fix and "-" in specs:
        raise typer.BadParameter("standard input cannot be fixed", param_hint="--fix")
    paths = _search(specs)
    readings = []
    for path in paths:
        reading, fixed = _read(invocation, path, paths, sets or (), fix=fix)
        readings.append(reading)
        if format_ != "json":
            _show(
                invocation,
                reading,
                len(apply_fixes.fixable(reading.diagnostics, paths, reading.sources)),
                fixed,
                format_,
            )
    if format_ == "json":
        invocation.out.data([render.plain(d, reading.name) for reading in readings for d in reading.diagnostics])
    elif format_ != "github" and len(readings) > 1:
        failed = sum(reading.failed for reading in readings)
        invocation.out.say(f"{failed} of {len(readings)} specs have errors" if failed else "all specs are fine")
    raise typer.Exit(max(exit_code(reading) for reading in readings))


def _search(specs: Iterable[str]) -> list[str]:
    """The files to check, each once; of a folder the files that are specs."""
    found: dict[str, None] = {}
    for given in specs:
        if given == "-" or not os.path.isdir(given):  # noqa: PTH112 - a name with NUL is reported later
            found[given] = None
            continue
        inside = [str(path) for path in sorted(Path(given).rglob("*.y*ml")) if _is_spec(path, Path(given))]
        if not inside:
            raise typer.BadParameter(f"no file in {given} has the key `kdspec`", param_hint="SPEC")
        found.update(dict.fromkeys(inside))
    return list(found)


def _is_spec(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    if hidden or path.suffix not in {".yaml", ".yml"} or not path.is_file():
        return False
    return _has_version(path, set())


def _has_version(path: Path, seen: set[Path]) -> bool:
    """Whether a file, or one that it extends, has the key `kdspec`."""
    real = path.resolve()
    if real in seen or not path.is_file():
        return False
    seen.add(real)
    # Not parsed: a spec that is not valid YAML must be found and reported too.
    text = path.read_text(encoding="utf-8", errors="replace")
    if _IS_SPEC.search(text) is not None:
        return True
    extends = _EXTENDS.search(text)
    return extends is not None and any(
        _has_version(path.parent / base, seen)
        for base in _BASES.findall(extends[1])
        if base.endswith((".yaml", ".yml"))
    )


def _read(
    invocation: Invocation, path: str, paths: Sequence[str], sets: Sequence[str], *, fix: bool
) -> tuple[Reading, int]:
    from kdspec.cli import apply_fixes

    reading = invocation.read(path, sets)
    fixed = 0
    for _ in range(_ROUNDS if fix else 0):
        done = apply_fixes.write(apply_fixes.fixable(reading.diagnostics, paths, reading.sources), reading.sources)
        if not done:
            break
        fixed += done
        reading = invocation.read(path, sets)
    return reading, fixed


def _show(invocation: Invocation, reading: Reading, fixable: int, fixed: int, format_: Format) -> None:
    from kdspec.cli.print_diagnostics import show
    from kdspec.render.diagnostics import summary

    out = invocation.out
    show(reading.diagnostics, reading.sources, reading.name, out, format_)
    if fixed:
        invocation.err.say(f"fixed {fixed} in {reading.name}")
    if format_ == "full" or (format_ == "concise" and not reading.diagnostics):
        out.say(summary(reading.diagnostics, reading.name, 0 if fixed else fixable))
