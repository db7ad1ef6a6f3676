"""The files of one cache: blocks of bytes at fixed places, a checksum for each, and room for several processes at once."""

from __future__ import annotations

import fcntl
import hashlib
import json
import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdspec.engine.run.durable_files import atomic_write
from kdspec.engine.teacher_cache.catalogue import ABOUT

DATA, INDEX, LOCK = "data", "index", ".lock"
_CHECKSUM = 16
_ABSENT = bytes(_CHECKSUM)


class CacheDamage(Exception):  # noqa: N818 - a finding, after which the block is computed again
    """Raised for a block whose bytes are not those of its checksum."""


class Store:
    """A folder with the values of one teacher for one set of rows; every method may raise `OSError`.

    The files have their full size from the start and holes where nothing was written yet. A block is written before
    its checksum, so that one that a killed process has begun does not count. It is checked once in each process.

    Args:
        folder: its own folder, which is made.
        starts: where each block begins, and the end.
        about: what the folder holds, for people and for the list of caches.
    """

    def __init__(self, folder: Path, starts: NDArray[np.int64], about: Mapping[str, Any]) -> None:
        self.folder, self.starts = folder, starts
        blocks = len(starts) - 1
        folder.mkdir(parents=True, exist_ok=True)
        self._data = _sized(folder / DATA, int(starts[-1]))
        try:
            self._index = _sized(folder / INDEX, blocks * _CHECKSUM)
            try:
                self._lock = _sized(folder / LOCK, 0)
            except OSError:
                os.close(self._index)
                raise
        except OSError:
            os.close(self._data)
            raise
        self._map = mmap.mmap(self._data, int(starts[-1]), access=mmap.ACCESS_READ)
        self._view = memoryview(self._map)
        self._checked = bytearray(blocks)
        text = json.dumps(about, indent=2) + "\n"
        if not (folder / ABOUT).exists():
            atomic_write(folder / ABOUT, text)
        with suppress(OSError):  # of another user
            os.utime(folder / ABOUT)  # when it was last used

    @property
    def view(self) -> memoryview:
        """All bytes; those of a block only once `has` has found it."""
        return self._view

    def count(self) -> int:
        """How many blocks have been written, whether damaged or not."""
        index = np.frombuffer(os.pread(self._index, (len(self.starts) - 1) * _CHECKSUM, 0), np.uint8)
        return int(index.reshape(-1, _CHECKSUM).any(1).sum())

    def has(self, block: int) -> bool:
        """Whether the block is there and whole.

        Raises:
            Damage: it is there, and not whole. It is as if absent from then on.
        """
        if self._checked[block]:
            return True
        checksum = os.pread(self._index, _CHECKSUM, block * _CHECKSUM)
        if checksum == _ABSENT or len(checksum) < _CHECKSUM:
            return False
        if checksum != _sum(block, self._view[self.starts[block] : self.starts[block + 1]]):
            _write(self._index, _ABSENT, block * _CHECKSUM)
            raise CacheDamage
        self._checked[block] = 1
        return True

    def write(self, block: int, content: bytes | bytearray) -> None:
        """Keep a block. If the disk refuses it, it stays absent."""
        assert len(content) == self.starts[block + 1] - self.starts[block], "a block has its place and no more"
        _write(self._data, content, int(self.starts[block]))
        _write(self._index, _sum(block, content), block * _CHECKSUM)
        self._checked[block] = 1

    @contextmanager
    def alone(self, block: int) -> Iterator[None]:
        """Wait until no other process computes the block, and let none begin meanwhile."""
        cached_teachers = False
        with suppress(OSError):  # a file system without locks: then two may compute the same block, to the same end
            fcntl.lockf(self._lock, fcntl.LOCK_EX, 1, block)
            cached_teachers = True
        try:
            yield
        finally:
            if cached_teachers:
                fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, block)

    def close(self) -> None:
        """Let go of the files."""
        self._view.release()
        self._map.close()
        for descriptor in (self._data, self._index, self._lock):
            os.close(descriptor)


def _sized(path: Path, size: int) -> int:
    """A file that is open, made where it is missing, of this size."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        if os.fstat(descriptor).st_size != size:
            os.ftruncate(descriptor, size)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sum(block: int, content: memoryview | bytes | bytearray) -> bytes:
    """Never that of another block, so that a block in a wrong place is found out; never nothing but zeros."""
    found = hashlib.blake2b(content, digest_size=_CHECKSUM, key=str(block).encode()).digest()
    return found if found != _ABSENT else bytes([1] * _CHECKSUM)


def _write(descriptor: int, content: bytes | bytearray, offset: int) -> None:
    rest = memoryview(content)
    # A disk that fills up takes a part, and tells why only when asked for the rest.
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written
