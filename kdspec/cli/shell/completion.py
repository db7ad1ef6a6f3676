"""What the shell proposes for a word of a command: specs, runs, components, codes. Nothing here reads a model or data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import typer

from kdspec.cli.own_stdout import own_stdout

_SPECS = (".yaml", ".yml")
_LOG = "events.jsonl"
_MOST = 500
"""Proposals: more of them help nobody."""


def complete_spec(incomplete: str) -> list[str]:
    """YAML files, and folders on the way to them."""
    return [*_paths(incomplete, lambda path: path.suffix in _SPECS)]


def complete_plan(incomplete: str) -> list[str]:
    """YAML files and saved plans, and folders on the way to them."""
    return [*_paths(incomplete, lambda path: path.suffix in (*_SPECS, ".json"))]


def complete_run(incomplete: str) -> list[str]:
    """Folders of runs: those in `runs`, or those of the folder that is being typed; and folders on the way to others."""
    inside = [f"runs/{path.name}" for path in _entries(Path("runs")) if (path / _LOG).is_file()]
    found = dict.fromkeys([*(name for name in inside if name.startswith(incomplete)), *_folders(incomplete)])
    return list(found)[:_MOST]


def complete_kind(context: typer.Context, incomplete: str) -> list[str]:
    """Kinds of components."""
    from kdspec.registry.registry import KINDS

    del context
    return [kind.kind for kind in KINDS if kind.kind.startswith(incomplete)]


def complete_component(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Components of the kind that is given before, or of any; with their first line."""
    from kdspec.cli.kind_names import kinds_named

    kind = context.params.get("kind")
    kinds = None
    if kind is not None:
        with suppress(typer.BadParameter):
            kinds = {wanted.kind for wanted in kinds_named(kind)}
    with own_stdout(context.obj):  # plugins may print when they are loaded
        entries = context.obj.any_registry.entries
    found = [each.component for each in entries if kinds is None or each.component.kind in kinds]
    described = {each.name: each.__doc__ or "" for each in found if each.name.startswith(incomplete)}
    return [(name, text.strip().partition("\n")[0]) for name, text in described.items()]


def complete_kind_or_component(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Kinds, and components of any kind: `kdspec show` takes either first."""
    kinds = [(kind, "") for kind in complete_kind(context, incomplete)]
    return [*kinds, *complete_component(context, incomplete)]


def complete_code(incomplete: str) -> list[tuple[str, str]]:
    """Codes with their titles."""
    from kdspec.diagnostics.diagnostic import CODES

    return [(known.code, known.title) for known in CODES.values() if known.code.startswith(incomplete)]


def complete_library(incomplete: str) -> list[str]:
    """Specs that ship with kdspec."""
    from kdspec.launch.shipped_specs import library

    return [name for name in library() if name.startswith(incomplete)]


def _paths(incomplete: str, wanted: Callable[[Path], bool]) -> Iterator[str]:
    """The files that begin with what is typed, and folders."""
    yield from _folders(incomplete)
    for shown, path in _beginning(incomplete):
        if path.is_file() and wanted(path):
            yield shown


def _folders(incomplete: str) -> Iterator[str]:
    yield from (f"{shown}/" for shown, path in _beginning(incomplete) if path.is_dir())


def _beginning(incomplete: str) -> Iterator[tuple[str, Path]]:
    """What is typed, continued by the entries of its folder; hidden ones only where a dot is typed."""
    typed, slash, start = incomplete.rpartition("/")
    folder = Path(typed + slash).expanduser()
    for path in _entries(folder):
        if path.name.startswith(start) and (start or not path.name.startswith(".")):
            yield f"{typed}{slash}{path.name}", path


def _entries(folder: Path) -> list[Path]:
    with suppress(OSError, ValueError):
        return sorted(folder.iterdir())[:_MOST]
    return []
