"""The files of one cache: append-only segments of samples and their index, which several processes may use at once."""

from __future__ import annotations

import fcntl
import hashlib
import json
import mmap
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from kdspec.engine.run.durable_files import atomic_write
from kdspec.engine.teacher_cache.catalogue import ABOUT, INDEX
from kdspec.engine.teacher_cache.segment_index import SegmentRecord, checksum, records, segment

LOCK, SEGMENT = ".lock", ".samples"
_APPENDING = 2**62
"""The byte of the lock file that is locked while the index grows; each lower byte is the lock of a unit of computation."""


class CacheDamage(Exception):  # noqa: N818 - not an error: the sample is computed again
    """Raised for a sample with bytes that do not match its checksum."""


class _Place(NamedTuple):
    record: SegmentRecord
    offset: int
    size: int
    checksum: bytes


class Store:
    """A folder with the values of one teacher by sample; every method may raise `OSError`.

    Each process appends to a file of its own, so that none writes where another reads. A segment is written before its
    record in the index: after a kill there is a segment without a record, which is removed, or an incomplete record, which
    is skipped. A stored sample is never replaced by other bits: of several values the first undamaged one is read. The
    checksum of a sample is verified once in each process.

    Args:
        folder: its own folder; created if absent.
        about: what the folder holds, for people and for the list of caches.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder = folder
        self._places: dict[bytes, list[_Place]] = {}
        self._damaged: dict[bytes, SegmentRecord] = {}
        self._checked: set[bytes] = set()
        self._maps: dict[str, memoryview] = {}
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

    def __contains__(self, key: bytes) -> bool:
        """Whether a value of the sample has been written, whether damaged or not."""
        return key in self._places

    def refresh(self) -> None:
        """Read the records appended since the last call, also by other processes."""
        size = os.fstat(self._index).st_size
        if size < self._read:  # truncated while open: known records stay, checksums protect them
            self._read = 0
        data = os.pread(self._index, size - self._read, self._read)
        found, done = records(data)
        self._read += done
        for record in found:
            self._take(record)

    def has(self, key: bytes) -> bool:
        """Whether the sample is stored and matches its checksum.

        Raises:
            CacheDamage: it is damaged; it is treated as absent from then on.
        """
        if key in self._checked:
            return True
        places = self._places.get(key, [])
        damaged = bool(places)
        while places:
            if self._verified(key, places[0]):
                self._checked.add(key)
                return True
            self._damaged[key] = places.pop(0).record
        self._places.pop(key, None)
        if damaged:
            raise CacheDamage
        return False

    def together(self, key: bytes) -> tuple[bytes, ...]:
        """All samples of the batch in which a damaged sample was computed; empty if the sample is not damaged."""
        record = self._damaged.get(key)
        return () if record is None else record.keys()

    def view(self, key: bytes) -> memoryview:
        """The bytes of a sample; `has` must have returned True for it."""
        place = self._places[key][0]
        view = self._mapped(place)
        assert view is not None, "what was verified is still mapped"
        return view

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
            record = segment(name, offset, keys, needed)
            _write(self._index, record.encode(), os.fstat(self._index).st_size)
            self.refresh()
        self._checked.update(key for key, content in zip(keys, needed, strict=True) if content is not None)

    @contextmanager
    def alone(self, keys: Sequence[bytes]) -> Iterator[None]:
        """Lock these samples against computation by other processes; waits for the lock."""
        unit = int.from_bytes(hashlib.blake2b(b"".join(keys), digest_size=7).digest()) % _APPENDING
        with self._locked(unit):
            self.refresh()
            yield

    def close(self) -> None:
        """Close the files."""
        for view in self._maps.values():
            mapped = view.obj
            view.release()
            assert isinstance(mapped, mmap.mmap), "only maps are kept"
            mapped.close()
        self._maps.clear()
        own = () if self._own is None else (self._own[1],)
        for descriptor in (self._index, self._lock, *own):
            os.close(descriptor)

    def _take(self, record: SegmentRecord) -> None:
        for entry, offset in record.places():
            self._places.setdefault(entry.key, []).append(_Place(record, offset, entry.size, entry.checksum))

    def _has(self, key: bytes) -> bool:
        try:
            return self.has(key)
        except CacheDamage:
            return False

    def _verified(self, key: bytes, place: _Place) -> bool:
        view = self._mapped(place)
        return view is not None and checksum(key, view) == place.checksum

    def _mapped(self, place: _Place) -> memoryview | None:
        """The bytes at a place; None if the file is shorter."""
        name, end = place.record.file, place.offset + place.size
        if name not in self._maps or len(self._maps[name]) < end:
            try:
                # The descriptor of its own file still works after somebody has removed the cache.
                own = self._own is not None and self._own[0] == name
                descriptor = (
                    os.dup(self._own[1]) if own and self._own else _open_to_read(self.folder / f"{name}{SEGMENT}")
                )
            except FileNotFoundError:
                return None
            try:
                size = os.fstat(descriptor).st_size
                if size < max(end, 1):
                    return None
                # The old, smaller map is freed with the last array that refers to it.
                self._maps[name] = memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))
            finally:
                os.close(descriptor)
        return self._maps[name][place.offset : end]

    def _segments(self) -> tuple[str, int]:
        """The file to which this process appends; created for its first segment."""
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
            known = {place.record.file for places in self._places.values() for place in places}
            for path in self.folder.glob(f"*{SEGMENT}"):
                if path.name.removesuffix(SEGMENT) in known or path.is_symlink():
                    continue
                # The lock fails if another process has just created the file and not written its record yet.
                with suppress(OSError):
                    descriptor = _open_to_read(path)
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


def _open_to_read(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _write(descriptor: int, content: bytes, offset: int) -> None:
    rest = memoryview(content)
    # On a disk that is nearly full a write is short, and only the next one raises.
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written
