"""One writer for each run folder."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.run.durable_files import UNSUPPORTED, cannot_write


class RunLock:
    """Locks a run folder for this process; the system releases the lock however the process ends.

    Entering creates the folder and raises KD505, naming the holder, if it is locked. It uses `lockf`, not `flock`: a forked
    worker would keep a `flock` after its parent was killed, and a restart would be refused.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.exclusive = True
        """Whether the file system has locks. Without them only a run on this machine is noticed, by its process."""
        self._descriptor = -1

    def __enter__(self) -> Self:
        path = self.folder / ".lock"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        try:
            # O_NOFOLLOW: the file that a symbolic link points to would be overwritten.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise cannot_write(path, error) from error
        if _held_by_this_process(descriptor):
            # POSIX releases a process's lock when it closes any descriptor of the file, so this one stays open.
            raise self._in_use(descriptor)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            in_use = self._in_use(descriptor)
            os.close(descriptor)
            raise in_use from error
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                os.close(descriptor)
                raise cannot_write(path, error) from error
            if _holder_lives(descriptor):
                in_use = self._in_use(descriptor)
                os.close(descriptor)
                raise in_use from error
            self.exclusive = False
        self._descriptor = descriptor
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._write(f"pid {os.getpid()} on {socket.gethostname()} since {since}\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The file is not removed: a process that has it open and one that creates a new file could both hold a lock.
        self._write("")
        os.close(self._descriptor)

    def check(self) -> None:
        """Raises KD508 if the folder of this name is not the locked one: it was deleted, moved or re-created."""
        path = self.folder / ".lock"
        with suppress(OSError):
            if os.path.samestat(path.lstat(), os.fstat(self._descriptor)):
                return
        raise FindingError(
            Finding(
                "KD508",
                f"the run folder `{self.folder}` is no longer the one that this run started in",
                notes=("it, or the file `.lock` in it, was deleted, moved or re-created during the run",),
                help="if it was moved, move it back, and run the same command again",
            )
        )

    def _write(self, holder: str) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, holder.encode(), 0)

    def _in_use(self, descriptor: int) -> FindingError:
        holder = os.pread(descriptor, 500, 0).decode(errors="replace").strip() or "another process"
        return FindingError(
            Finding(
                "KD505",
                f"the run folder `{self.folder}` is in use by {holder}",
                help="wait for that run to end, or give this one another name",
            )
        )


def holder(folder: Path) -> str:
    """The process that runs in a folder, such as `pid 12 on host since ...`; empty if there is none. Locks nothing."""
    try:
        descriptor = os.open(folder / ".lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return ""
    if _held_by_this_process(descriptor):
        return _named(descriptor)  # as above: closing it would release the lock
    try:
        named = _named(descriptor)
        # The name of a process that was killed is still there; only the lock tells whether it lives.
        return named if named and _is_locked(descriptor) else ""
    finally:
        os.close(descriptor)


def _named(descriptor: int) -> str:
    return os.pread(descriptor, 500, 0).decode(errors="replace").strip()


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError as error:
        return error.errno in UNSUPPORTED and _holder_lives(descriptor)
    return False  # closing the descriptor releases it


def _holder_lives(descriptor: int) -> bool:
    """Whether the file names a process of this machine that exists."""
    found = re.match(r"pid (\d+) on (\S+) since ", os.pread(descriptor, 500, 0).decode(errors="replace"))
    if found is None or found[2] != socket.gethostname():
        return False
    try:
        os.kill(int(found[1]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # of another user
    return True


def _held_by_this_process(descriptor: int) -> bool:
    """Whether another descriptor of this process has the lock; `lockf` grants it to the same process again."""
    if not hasattr(fcntl, "F_OFD_GETLK"):
        return False
    # struct flock: type, whence, start, length, pid. An F_OFD_GETLK query treats this process's locks as foreign.
    query = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        reply: tuple[int, ...] = struct.unpack("hhqqi4x", fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, query))
    except OSError:
        # Some sandboxes and network file systems do not support the query; `lockf` still refuses other processes.
        return False
    return reply[0] != fcntl.F_UNLCK and reply[4] == os.getpid()
