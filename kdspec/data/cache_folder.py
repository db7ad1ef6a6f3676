"""The folder of kdspec's caches: teacher outputs, encoded texts and vectors of tokens; and how a file is put into it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "KDSPEC_CACHE"
"""The environment variable that names the folder."""


def cache_folder() -> Path:
    """The folder that `KDSPEC_CACHE` names, or `kdspec/teachers` in the user's cache folder."""
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "kdspec" / "teachers"


def put(file: Path, data: bytes, most: int) -> None:
    """Write a file of a cache whole or not at all, so that several runs can read and write at once.

    Files beside it with its suffix make room, those first that have not been touched for longest.

    Args:
        file: the file.
        data: its content.
        most: total size of these files in bytes.

    Raises:
        OSError: the disk does not take it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    for old in _surplus(file, len(data), most):
        old.unlink(missing_ok=True)
    # A unique name, since several runs may write the same file.
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _surplus(file: Path, more: int, most: int) -> Iterator[Path]:
    """The least recently used files, as many as must be deleted for `more` bytes."""
    files = sorted(
        ((path, path.stat()) for path in file.parent.glob(f"*{file.suffix}")), key=lambda each: -each[1].st_mtime
    )
    taken = more
    for path, stat in files:
        taken += stat.st_size
        if taken > most:
            yield path
