"""The specs that ship with kdspec: `specs/` of a checkout, or their copies in the installed package; and their assets."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import kdspec

_PACKAGE = Path(kdspec.__file__).parent
ASSETS = "assets"
"""The folder, beside the specs, of the models and data that they read."""
_OF_ASSET = re.compile(r"(?:^|(?<=[\s/\\{\[:,'\"-]))assets/(?P<name>[\w.-]+)")


def library() -> Mapping[str, Path]:
    """The specs by name, for example `quickstart`."""
    folder = specs_folder()
    files = sorted(path for path in folder.rglob("*.yaml") if ASSETS not in path.relative_to(folder).parts)
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def specs_folder() -> Path:
    """The folder of the specs: a part of the installed package, or of the checkout."""
    installed = _PACKAGE / "specs"
    return installed if installed.is_dir() else _PACKAGE.parent / "specs"


def to_fetch(path: str, folder: Path) -> str | None:
    """The command that fetches a file or folder of `folder`, if it belongs to an asset of the library's specs."""
    found = _OF_ASSET.search(path)
    if found is None or found["name"] not in _assets():
        return None
    there = Path(os.path.normpath(folder / os.path.expanduser(path[: found.start("name")])))  # noqa: PTH111 - raises nothing
    usual = os.path.realpath(assets_folder(Path())) == os.path.realpath(there)
    return f"kdspec fetch {found['name']}" + ("" if usual else f" --into {shlex.quote(os.path.relpath(there))}")


def _assets() -> set[str]:
    """The names of the assets that specs of the library read."""
    texts = (file.read_text(encoding="utf-8") for file in library().values())
    return {found["name"] for text in texts for found in _OF_ASSET.finditer(text)}


def assets_folder(folder: Path) -> Path:
    """Where the assets of specs in `folder` are: those of the checkout, or else a folder beside the specs."""
    checkout = _PACKAGE.parent / "specs"
    return checkout / ASSETS if specs_folder() == checkout else folder / ASSETS
