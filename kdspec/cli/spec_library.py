"""Copies of the specs that ship with kdspec, for another folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdspec.cli.apply_fixes import apply
from kdspec.cli.spec_template import MODELINE, SCHEMA, scalar
from kdspec.diagnostics.diagnostic import Edit
from kdspec.launch import shipped_specs
from kdspec.launch.shipped_specs import ASSETS, library, specs_folder
from kdspec.source.document import Path as SpecPath
from kdspec.source.document import parse

_DEFAULT = re.compile(r"(?P<before>\$\{\w+:-)(?P<file>[^}]*)\}")
"""A file that a variable may replace: `${TEACHER:-../assets/teacher}`."""


@dataclass(frozen=True)
class Copy:
    """A spec of the library for another folder."""

    texts: dict[Path, str]
    """The spec first, the specs that it extends, and its small data, by the file to write."""
    assets: tuple[str, ...]
    """The assets that it reads, by their names."""


def script() -> Path:
    """The script that fetches the assets."""
    return specs_folder() / "fetch.py"


def copied(name: str, file: Path) -> Copy:
    """The spec `name` for the file `file`. What it extends and its data are written beside it, and nothing else is named there.

    Assets are those of `assets_folder`.
    """
    texts: dict[Path, str] = {}
    assets: dict[str, None] = {}
    _copy(library()[name], file, texts, assets)
    return Copy(texts, tuple(assets))


def recipe(name: str) -> dict[str, str]:
    """The sections of a recipe by their key, each with its key; `""` is the comment at its head."""
    text = library()[name].read_text(encoding="utf-8")
    parts = re.split(r"^(?=[a-z]+:)", text, flags=re.MULTILINE)
    sections = {part.partition(":")[0]: part.rstrip() for part in parts[1:]}
    return {"": parts[0].split("\n#\n")[0].rstrip(), **sections}


def _copy(source: Path, file: Path, texts: dict[Path, str], assets: dict[str, None]) -> None:
    text = source.read_text(encoding="utf-8")
    document = parse(text, str(source), source.parent)
    texts[file] = ""  # its place is first
    edits = []
    for loc, value in _texts(document.data):
        default = _DEFAULT.fullmatch(value)
        written = default["file"] if default else value
        there = _target(source.parent / written, loc, file, texts, assets)
        if there is not None:
            edits.append(Edit(document.values[loc], scalar(f"{default['before']}{there}}}" if default else there)))
    text, _ = apply(text, edits)
    lines = text.splitlines(keepends=True)
    if lines and lines[0].startswith(MODELINE):
        del lines[0]
    texts[file] = f"{MODELINE}{SCHEMA}\n" + "".join(lines)


def _target(source: Path, loc: SpecPath, file: Path, texts: dict[Path, str], assets: dict[str, None]) -> str | None:
    """The path to write for a file of the library; None for a text that is none."""
    inside = Path(os.path.normpath(source))
    within = inside.relative_to(specs_folder()).parts if inside.is_relative_to(specs_folder()) else ()
    if ASSETS in within[:1] and len(within) > 1:
        assets.setdefault(within[1])
        place = shipped_specs.assets_folder(file.parent).joinpath(*within[1:])
        return relative(place.resolve(), file.parent.resolve())
    if not within or not _is_file(inside):
        return None
    beside = file.parent / inside.name
    if loc[0] == "extends":
        if beside not in texts:
            _copy(inside, beside, texts, assets)
    else:
        texts[beside] = inside.read_text(encoding="utf-8")
    return f"./{inside.name}"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a text, such as a prompt, that is too long for a name
        return False


def relative(path: Path, folder: Path) -> str:
    """`path` relative to `folder`. It begins with a dot, so that it is not mistaken for a name on the hub."""
    if path.is_absolute() and not folder.is_absolute():
        return str(path)
    try:
        way = os.path.relpath(path, folder)
    except ValueError:  # another drive
        return str(path.resolve())
    return Path(way).as_posix() if way.startswith(os.pardir) else f"./{Path(way).as_posix()}"


def _texts(value: Any, loc: SpecPath = ()) -> Iterator[tuple[SpecPath, str]]:
    if isinstance(value, str):
        yield loc, str(value)
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from _texts(child, (*loc, key))
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from _texts(child, (*loc, number))
