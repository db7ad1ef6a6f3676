"""Checksums of files by their content; large files are read again only if they may have changed."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from kdspec.engine.run.durable_files import sha256

_LARGE = 2**25
"""Bytes from which a file is not read at every start: smaller ones take less than a tenth of a second."""
_MARGIN = 2 * 10**9
"""Nanoseconds for which a file must have been left alone before its stamp is trusted."""

Stamp = tuple[int, int, int, int, int]
"""Device, inode, size, and the times of the last change of content and of anything in a file, in nanoseconds."""


class FileDigests:
    """Checksums of files.

    A large file keeps its checksum while its stamp is the same. The stamp has the time of the inode's last change (ctime)
    beside that of the content (mtime): every write moves it, and no program can set it back, as it can the other one. A write
    within the resolution of the clock would leave both as they are, so a stamp younger than two seconds is not kept.

    Args:
        known: checksums of an earlier start by `name`, with the stamps for which they hold.
    """

    def __init__(self, known: Mapping[str, tuple[Stamp, str]]) -> None:
        self._former = known
        self.known: dict[str, tuple[Stamp, str]] = {}
        """The checksums of this start that the next one may use."""

    def of(self, path: Path) -> str:
        """The SHA-256 of a file's content, in hexadecimal. Raises OSError if it cannot be read, or is a device or a pipe."""
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))
        # On Windows this time is that of the file's creation, which no write moves.
        if found.st_size < _LARGE or os.name == "nt":
            return sha256(path)
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        name = f"{found.st_dev}:{found.st_ino}"
        former = self._former.get(name)
        now = time.time_ns()
        digest = former[1] if former is not None and former[0] == stamp else sha256(path)
        if max(found.st_mtime_ns, found.st_ctime_ns) < now - _MARGIN:
            self.known[name] = (stamp, digest)
        return digest

    def together(self, paths: Iterable[Path], *, named: bool = False) -> str:
        """One checksum of several files in their order, that of the file itself for a single one.

        Args:
            paths: the files.
            named: whether their names count.
        """
        found = [(path.name if named else "", self.of(path)) for path in paths]
        if len(found) == 1 and not named:
            return found[0][1]
        return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in found).encode()).hexdigest()
