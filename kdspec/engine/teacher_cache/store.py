"""The files of one cache: append-only segments of samples and their index, which several processes may use at once."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdspec.engine.run.durable_files import atomic_write
from kdspec.engine.teacher_cache.catalogue import ABOUT, INDEX
from kdspec.engine.teacher_cache.segment_index import SegmentRecord, checksum, records, segment
from kdspec.engine.teacher_cache.stored_samples import SEGMENT, SamplePlace, SamplePlaces, SegmentFiles

LOCK = ".lock"
_APPENDING = 2**62
"""The byte of the lock file that is locked while the index grows; each lower byte is the lock of a unit of computation."""


class CacheDamage(Exception):  # noqa: N818 - not an error: the sample is computed again
    """Raised for a sample with bytes that do not match its checksum."""


class Store:
    """A folder with the values of one teacher by sample; every method may raise `OSError`.

    Each process appends to a file of its own, so that none writes where another reads. A segment is written before its
    record in the index: after a kill there is a segment without a record, which is removed, or an incomplete record, which
    is skipped. A stored sample is never replaced by other bits: of several values the first undamaged one is read. The
    checksum of a sample is verified once in each process, and again if its file has become shorter.

    Args:
        folder: its own folder; created if absent.
        about: what the folder holds, for people and for the list of caches.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder = folder
        self._places, self._files = SamplePlaces(), SegmentFiles(folder)
        self._damaged: dict[bytes, SegmentRecord] = {}
        self._bad: set[tuple[str, int]] = set()
        """The places, by file and offset, of samples that were damaged."""
        self._verified: dict[bytes, tuple[SamplePlace, int]] = {}
        """The place of each verified sample, and how often its file had become shorter then."""
        self._own: tuple[str, int] | None = None
        self._read = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._index = _open(folder / INDEX)
        try:
            self._lock = _open(folder / LOCK)
        except OSError:
            os.close(self._index)
            raise
        try:
            self.refresh()
            self._remove_unreferenced()
            if not (folder / ABOUT).exists():
                atomic_write(folder / ABOUT, json.dumps(about, indent=2) + "\n")
        except OSError:
            self.close()
            raise
        with suppress(OSError):  # of another user
            os.utime(folder / ABOUT)  # when it was last used

    @property
    def size(self) -> int:
        """The bytes of all segments, of any data set."""
        return sum(path.stat().st_size for path in self.folder.glob(f"*{SEGMENT}"))

    def absent(self, keys: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of these keys, of type `S16`, have no value, whether damaged or not."""
        return ~self._places.have(keys)

    def refresh(self) -> None:
        """Read the records appended since the last call, also by other processes."""
        size = os.fstat(self._index).st_size
        if size < self._read:  # truncated while open: known records stay, checksums protect them
            self._read = 0
        data = os.pread(self._index, size - self._read, self._read)
        found, done = records(data)
        self._read += done
        self._places.add(found)

    def has(self, key: bytes) -> bool:
        """Whether the sample is stored and matches its checksum.

        Raises:
            CacheDamage: it is damaged; it is treated as absent from then on.
        """
        if self._known(key) is not None:
            return True
        self._verified.pop(key, None)
        damaged = False
        for place in self._places.of(key):
            if (place.record.file, place.offset) in self._bad:
                continue
            content = self._content(place)
            if content is not None and checksum(key, content) == place.checksum:
                self._verified[key] = place, self._files.times_shrunk(place.record.file)
                return True
            damaged = True
            self._bad.add((place.record.file, place.offset))
            self._damaged[key] = place.record
        if damaged:
            raise CacheDamage
        return False

    def size_of(self, key: bytes) -> int:
        """The bytes of a sample; `has` must have returned True for it."""
        return self._verified[key][0].size

    def together(self, key: bytes) -> tuple[bytes, ...]:
        """All samples of the batch in which a damaged sample was computed; empty if the sample is not damaged."""
        record = self._damaged.get(key)
        return () if record is None else record.keys()

    def read(self, key: bytes) -> bytes:
        """The bytes of a stored sample.

        Raises:
            CacheDamage: it is absent or damaged, or its file has become shorter since it was verified.
        """
        # Twice, as the first read may notice that the file has become shorter, and the sample is verified again.
        for _ in range(2):
            content = self._content(self._verified[key][0]) if self.has(key) else None
            # After reading too: bytes that others have written where the file has ended are of other samples.
            if content is not None and self._known(key) is not None:
                return content
            self._verified.pop(key, None)
            if content is None:  # the next `has` tells it as damage
                break
        raise CacheDamage

    def write(self, keys: Sequence[bytes], contents: Sequence[bytes | bytearray]) -> None:
        """Store samples that were computed together. If the write fails, they stay absent.

        A sample that another process has stored meanwhile is not stored again.
        """
        with self._locked(_APPENDING):
            self.refresh()
            needed = [content if not self._has(key) else None for key, content in zip(keys, contents, strict=True)]
            if all(content is None for content in needed):
                return
            name, descriptor = self._segments()
            offset = os.fstat(descriptor).st_size
            # Contents before the record: a reader that finds the record must find the bytes.
            _write(descriptor, b"".join(content for content in needed if content is not None), offset)
            self._files.size(name, descriptor)
            record = segment(name, offset, keys, needed)
            _write(self._index, record.encode(), os.fstat(self._index).st_size)
            self.refresh()

    @contextmanager
    def alone(self, keys: Sequence[bytes]) -> Iterator[None]:
        """Lock these samples against computation by other processes; waits for the lock."""
        unit = int.from_bytes(hashlib.blake2b(b"".join(keys), digest_size=7).digest()) % _APPENDING
        with self._locked(unit):
            self.refresh()
            yield

    def close(self) -> None:
        """Close the files."""
        self._files.close()
        own = () if self._own is None else (self._own[1],)
        for descriptor in (self._index, self._lock, *own):
            os.close(descriptor)

    def _has(self, key: bytes) -> bool:
        try:
            return self.has(key)
        except CacheDamage:
            return False

    def _known(self, key: bytes) -> SamplePlace | None:
        """The place of a sample that is verified, and whose file has not become shorter since."""
        found = self._verified.get(key)
        if found is None or self._files.times_shrunk(found[0].record.file) != found[1]:
            return None
        return found[0]

    def _content(self, place: SamplePlace) -> bytes | None:
        """The bytes at a place; None if the file is shorter."""
        name = place.record.file
        # The descriptor of its own file still works after somebody has removed the cache.
        own = None if self._own is None or self._own[0] != name else self._own[1]
        return self._files.read(name, place.offset, place.size, own)

    def _segments(self) -> tuple[str, int]:
        """The file to which this process appends; created for its first segment."""
        if self._own is not None:
            self._files.size(*self._own)
            if self._files.times_shrunk(self._own[0]):
                # Others may hold what they have verified in it for unchanged if it grew again.
                os.close(self._own[1])
                self._own = None
        if self._own is None:
            name = secrets.token_hex(16)
            descriptor = _open(self.folder / f"{name}{SEGMENT}", os.O_EXCL)
            with suppress(OSError):  # marks the file as in use
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._own = name, descriptor
        return self._own

    def _remove_unreferenced(self) -> None:
        """Remove segments without a record, which a kill or a lost index leaves, unless they are in use."""
        with self._locked(_APPENDING):
            self.refresh()
            known = self._places.files
            for path in self.folder.glob(f"*{SEGMENT}"):
                if path.name.removesuffix(SEGMENT) in known or path.is_symlink():
                    continue
                # The lock fails if another process has just created the file and not written its record yet.
                with suppress(OSError):
                    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        path.unlink()
                    finally:
                        os.close(descriptor)

    @contextmanager
    def _locked(self, byte: int) -> Iterator[None]:
        held = False
        with suppress(OSError):  # without file locks two processes may compute the same sample; the first record wins
            fcntl.lockf(self._lock, fcntl.LOCK_EX, 1, byte)
            held = True
        try:
            yield
        finally:
            if held:
                fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, byte)


def _open(path: Path, flags: int = 0) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o666)


def _write(descriptor: int, content: bytes, offset: int) -> None:
    rest = memoryview(content)
    # On a disk that is nearly full a write is short, and only the next one raises.
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written
