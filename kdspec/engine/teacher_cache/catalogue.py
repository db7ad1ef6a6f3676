"""The caches in a folder: what they hold, how large they are, and how they are removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kdspec.engine.files import cannot_write

ABOUT = "cache.json"
_KEY = 32


@dataclass(frozen=True)
class Held:
    """A cache on the disk."""

    key: str
    teacher: str
    run: str
    """The run that began it."""
    features: tuple[str, ...]
    rows: int
    bytes: int
    """What it takes when it is full."""
    on_disk: int
    """What it takes now."""
    used: str
    """When it was last opened, in UTC."""


def held(root: Path) -> list[Held]:
    """The caches in a folder, the one that was used last first; what is no cache is left out."""
    return sorted(_found(root), key=lambda cache: cache.used, reverse=True)


def remove(root: Path, key: str) -> list[Held]:
    """Remove the caches whose key begins so, and tell which they were. Raises KD508 where the disk refuses."""
    chosen = [cache for cache in held(root) if cache.key.startswith(key)]
    for cache in chosen:
        try:
            shutil.rmtree(root / cache.key)
        except OSError as error:
            raise cannot_write(root / cache.key, error) from error
    return chosen


def _found(root: Path) -> Iterator[Held]:
    for folder in root.iterdir() if root.is_dir() else ():
        if folder.is_symlink() or len(folder.name) != _KEY or not set(folder.name) <= set("0123456789abcdef"):
            continue
        try:
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            used = datetime.fromtimestamp((folder / ABOUT).stat().st_mtime, UTC).isoformat(timespec="seconds")
            # Files have their full length from the start, and holes where nothing was written yet.
            on_disk = sum(file.stat().st_blocks * 512 for file in folder.iterdir())
        except (OSError, ValueError, RecursionError):
            continue
        yield Held(folder.name, *_told(about if isinstance(about, dict) else {}), on_disk, used)


def _told(about: dict[str, Any]) -> tuple[str, str, tuple[str, ...], int, int]:
    features = about.get("features")
    names = tuple(map(str, features)) if isinstance(features, list) else ()
    rows, size = (value if isinstance(value := about.get(key), int) else 0 for key in ("rows", "bytes"))
    return str(about.get("teacher", "")), str(about.get("run", "")), names, rows, size
