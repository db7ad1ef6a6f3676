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
        found, real = os.stat(path), os.path.realpath(path)
    except (OSError, ValueError):
        return None
    top = next((top for top in _VIRTUAL if _below(real, (top,))), None)
    # A link of `/proc/self/fd` leads to an open file, whatever its name says.
    if top is None and not _is_at(found, real):
        top = _VIRTUAL[0]
    kind = _KINDS.get(stat.S_IFMT(found.st_mode))
    return kind or (None if top is None else f"a file of `{top}`")


def _is_at(found: os.stat_result, path: str) -> bool:
    try:
        return os.path.samestat(found, os.stat(path))
    except OSError:
        return False


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
    if within is not None and outside(path, within):
        return "leads out of the folder of the spec"
    kind = special(path)
    return None if kind is None else f"is {kind}"


def refused_inside(folder: str, within: str | None, *, limit: int = 2000) -> Iterator[tuple[str, str]]:
    """The files of a folder that must not be read: the path from the folder, and why. With `within` also those further down."""
    for number, path in enumerate(_files(folder, deep=within is not None)):
        if number >= limit:
            if within is not None:
                yield os.curdir, f"has more than {limit:,} files"
            return
        # An ordinary file that is no link is where its folder is.
        if not stat.S_ISREG(os.lstat(path).st_mode) and (why := refused(path, within)) is not None:
            yield os.path.relpath(path, folder), why


def _files(folder: str, *, deep: bool) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        # The walk follows no links.
        yield from (str(path) for name in folders if (path := Path(place, name)).is_symlink())
        yield from (os.path.join(place, name) for name in sorted(files))
        if not deep:
            return


def _below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)
