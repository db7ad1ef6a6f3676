"""The specs that ship with kdspec: `specs/` of a checkout, or their copies in the installed package."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kdspec
from kdspec.cli.apply_fixes import apply
from kdspec.cli.spec_template import MODELINE, SCHEMA, scalar
from kdspec.diagnostics.diagnostic import Edit
from kdspec.source.document import Path as SpecPath
from kdspec.source.document import parse

_PACKAGE = Path(kdspec.__file__).parent
_DEFAULT = re.compile(r"(?P<before>\$\{\w+:-)(?P<file>[^}]*)\}")
"""A file that a variable may replace: `${TEACHER:-../assets/teacher}`."""


def library() -> Mapping[str, Path]:
    """The specs by name, for example `quickstart`."""
    for folder in (_PACKAGE / "specs", _PACKAGE.parent / "specs"):
        files = sorted(path for path in folder.rglob("*.yaml") if "assets" not in path.relative_to(folder).parts)
        if files:
            return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}
    return {}


def adapted(path: Path, folder: Path) -> str:
    """The spec at `path` for a file in `folder`, with its relative paths and the schema's changed to that folder."""
    text = path.read_text(encoding="utf-8")
    document = parse(text, str(path), path.parent)
    edits = []
    for loc, value in _texts(document.data):
        default = _DEFAULT.fullmatch(value)
        file = default["file"] if default else value
        target = path.parent / file
        if ("/" in file or loc[0] == "extends") and target.exists():
            there = relative(target.resolve(), folder.resolve())
            edits.append(Edit(document.values[loc], scalar(f"{default['before']}{there}}}" if default else there)))
    text, _ = apply(text, edits)
    lines = text.splitlines(keepends=True)
    if lines and lines[0].startswith(MODELINE):
        del lines[0]
    return f"{MODELINE}{SCHEMA}\n" + "".join(lines)


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
