"""Which files a spec may have read: ordinary ones, and with `--untrusted` those below its own folder."""

# ruff: noqa: PTH116, PTH118 - os.path returns a value where pathlib raises, and tests for
# NUL bytes, over-long names and circles of links are the point here.

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

_VIRTUAL = ("/proc", "/sys")
"""Folders whose files are the state of processes and of the system."""
UNTRUSTED = "with `--untrusted` only files below the folder of the spec are read"
"""The help where a path leads out of it."""
_KINDS: Mapping[int, str] = MappingProxyType(
    {
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
)


def special(path: str) -> str | None:
    """What a path leads to if it is neither a file nor a folder on a disk; None if it is, or if nothing is there."""
    try:
        found = os.stat(path)
        real = os.path.realpath(path)
        if (kind := _KINDS.get(stat.S_IFMT(found.st_mode))) is not None:
            return kind
        # A link of `/proc/self/fd` leads to an open file, whatever its name says.
        if _below(real, _VIRTUAL) or not os.path.samestat(found, os.stat(real)):
            return f"a file of `{next((top for top in _VIRTUAL if _below(real, (top,))), _VIRTUAL[0])}`"
    except (OSError, ValueError):
        return None
    return None


def outside(path: str, folder: str) -> bool:
    """Whether a path leads out of a folder, links resolved. It need not exist."""
    try:
        return not _below(os.path.realpath(path), (os.path.realpath(folder),))
    except (OSError, ValueError):
        return True


def refused(path: str, within: str | None) -> str | None:
    """Why a path must not be read, as the end of a sentence; None if it may be.

    Args:
        path: a file or a folder.
        within: the folder out of which no path may lead; None for no such limit.
    """
    if (kind := special(path)) is not None:
        return f"is {kind}"
    if within is not None and outside(path, within):
        return "leads out of the folder of the spec"
    return None


def refused_inside(folder: str, within: str | None, *, limit: int = 2000) -> Iterator[tuple[str, str]]:
    """The files below a folder that must not be read: the path from the folder, and why."""
    for number, path in enumerate(_files(folder)):
        if number >= limit and within is not None:
            yield os.curdir, f"has more than {limit:,} files"
        if number >= limit:
            return
        if (why := refused(path, within)) is not None:
            yield os.path.relpath(path, folder), why


def _files(folder: str) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        # The walk follows no links.
        yield from (str(path) for name in folders if (path := Path(place, name)).is_symlink())
        yield from (os.path.join(place, name) for name in sorted(files))


def _below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)
