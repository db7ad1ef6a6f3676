"""Durable files: atomic synced writes, checksums, and errors of a full disk."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from kdspec.diagnostics.finding import Finding, FindingError

UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOTTY})
"""The numbers of errors by which a file system says that it does not have an operation, such as locks."""


_FULL = "free some space on this disk"
_CHECK = "check that the folder exists and is writable, and that its disk has space"
_OTHER = "or choose another folder, as with `--output`"
_HELPS: Mapping[int, str] = MappingProxyType(
    {
        errno.EACCES: f"change the permissions of the folder, {_OTHER}",
        errno.EPERM: f"change the permissions of the folder, {_OTHER}",
        errno.EROFS: "choose another folder, as with `--output`: this file system is read-only",
        errno.EDQUOT: "free some of your quota on this disk",
        errno.ENAMETOOLONG: f"shorten the name of the run or of the stage, {_OTHER}",
        errno.ENOTDIR: f"move the file that has the name of a folder here, {_OTHER}",
        errno.EISDIR: f"move the folder that has the name of a file here, {_OTHER}",
        errno.EMFILE: "raise the number of files that a process may open (`ulimit -n`)",
        errno.EFBIG: "raise the size that a file may have (`ulimit -f`), or use a file system for larger files",
        errno.EIO: f"look at the disk, which reports a failure, {_OTHER}",
    }
)
"""What helps against an error, by its number."""


def sync(path: Path) -> None:
    """Wait until a file's contents, or a folder's entries, are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def flush(descriptor: int) -> bool:
    """Wait until an open file is on disk; false if its file system cannot do that, as some of networks."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return False
    return True


def can_sync(folder: Path) -> bool:
    """Whether the entries of a folder can be written to the disk at once, so that a loss of power loses no file."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return flush(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """The checksum of a file's contents, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def atomic_write(path: Path, content: bytes | str) -> None:
    """Replace a file atomically: readers, even after a crash, see the old or the new contents.

    Text is written as UTF-8. Raises KD508 if it cannot be written; the old file is then unchanged.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            # Exclusive creation does not follow a symbolic link planted under this name.
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                # Before the rename: a file system may commit the rename first, and a power failure would leave an empty file.
                flush(file.fileno())
            temporary.replace(path)
            # The rename is an entry of the folder, which has to be synced too.
            sync(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise cannot_write(path, error, needed=len(data)) from error


def cannot_write(path: Path, error: Exception, needed: int | None = None) -> FindingError:
    """KD508 for `path`, with the free bytes of its disk and, if known, the bytes that were needed."""
    number = _number(error)
    reason = os.strerror(number).lower() if number else f"{error}".strip()
    free = _free(path)
    notes = tuple(
        f"{bytes_} bytes are {word}"
        for bytes_, word in ((needed, "needed"), (free, "free there"))
        if bytes_ is not None
    )
    full = number == errno.ENOSPC or (
        number not in _HELPS and needed is not None and free is not None and free < needed
    )
    return FindingError(
        Finding(
            "KD508",
            f"cannot write `{path}`: {reason}",
            notes=notes,
            help=_FULL if full else _HELPS.get(number or 0, _CHECK),
        )
    )


def _number(error: Exception) -> int | None:
    """The errno of an error; safetensors and shutil have it only in their messages."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = re.search(r"os error (\d+)|\[Errno (\d+)\]", f"{error}")
    return int(found[1] or found[2]) if found else None


def _free(path: Path) -> int | None:
    for place in (path, *path.parents):
        try:
            return shutil.disk_usage(place).free
        except OSError:
            continue
    return None
