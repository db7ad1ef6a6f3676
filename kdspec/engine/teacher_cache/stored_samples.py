"""Where the samples of a store are, in arrays, and their bytes in files that may get shorter."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdspec.engine.teacher_cache.segment_index import CHECKSUM, ENTRY, SegmentRecord, keys_of

SEGMENT = ".samples"
_OPEN = 128


class SamplePlace(NamedTuple):
    """The bytes of a sample in a file."""

    record: SegmentRecord
    offset: int
    size: int
    checksum: bytes


class SamplePlaces:
    """The places of samples by their keys, in the order in which they were written.

    Opening a large cache makes no object for each sample: the first records are kept as arrays, sorted by key.
    """

    def __init__(self) -> None:
        self._records: list[SegmentRecord] = []
        self._keys: NDArray[Any] = np.empty(0, ENTRY["key"])
        """Sorted; beside it the rest of each entry."""
        self._entries: NDArray[Any] = np.empty(0, ENTRY)
        self._offsets = np.empty(0, np.int64)
        self._numbers = np.empty(0, np.int64)
        self._later: dict[bytes, list[SamplePlace]] = {}
        self._files: set[str] = set()

    @property
    def files(self) -> frozenset[str]:
        """The names of all files with samples."""
        return frozenset(self._files)

    def add(self, records: Sequence[SegmentRecord]) -> None:
        """Add the samples that are stored in these segments."""
        self._files.update(record.file for record in records if len(record.stored()))
        if records and not self._records:
            self._fill(records)
            return
        for record in records:
            entries = record.entries[record.stored()]
            keys, sums = keys_of(entries["key"]), entries["checksum"].tobytes()
            places = zip(keys, record.offsets().tolist(), entries["size"].tolist(), strict=True)
            for number, (key, offset, size) in enumerate(places):
                checksum = sums[number * CHECKSUM : (number + 1) * CHECKSUM]
                self._later.setdefault(key, []).append(SamplePlace(record, offset, size, checksum))

    def of(self, key: bytes) -> list[SamplePlace]:
        """The places of a sample; empty if it has none."""
        return [*self._first(key), *self._later.get(key, ())]

    def have(self, keys: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of these keys, of type `S16`, have a place."""
        known = self._keys
        found = np.zeros(len(keys), np.bool_)
        if len(known):
            at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            found = known[at] == keys
        if self._later:
            missing = np.flatnonzero(~found)
            found[missing] = [key in self._later for key in keys_of(keys[missing])]
        return found

    def _first(self, key: bytes) -> Iterator[SamplePlace]:
        at = int(self._keys.searchsorted(np.frombuffer(key, self._keys.dtype))[0])
        shown = key.rstrip(b"\0")  # as numpy returns it
        while at < len(self._keys) and self._keys[at] == shown:
            _, size, checksum = self._entries[at].item()
            yield SamplePlace(self._records[int(self._numbers[at])], int(self._offsets[at]), size, checksum)
            at += 1

    def _fill(self, records: Sequence[SegmentRecord]) -> None:
        self._records = list(records)
        stored = [record.stored() for record in records]
        entries = np.concatenate([record.entries[each] for record, each in zip(records, stored, strict=True)])
        order = np.argsort(entries["key"], kind="stable")
        # A search in a field of a structured array would copy it each time.
        self._keys = np.ascontiguousarray(entries["key"][order])
        self._entries = entries[order]
        self._offsets = np.concatenate([record.offsets() for record in records])[order]
        self._numbers = np.repeat(np.arange(len(records)), [len(each) for each in stored])[order]


class SegmentFiles:
    """Reads parts of the segments in a folder; every method may raise `OSError`.

    Files are read and not mapped: a mapped file that somebody makes shorter ends the process with a signal.

    Args:
        folder: the folder of the store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._descriptors: dict[str, int] = {}
        """Of the files used last, the latest at the end; they can be read after somebody has removed the cache."""
        self._sizes: dict[str, int] = {}
        self._shrunk: dict[str, int] = {}

    def read(self, name: str, offset: int, size: int, descriptor: int | None = None) -> bytes | None:
        """A part of a file, by a `descriptor` if it is open already; None if the file does not have it."""
        if descriptor is None:
            try:
                descriptor = self._descriptor(name)
            except FileNotFoundError:
                return None
        # Before a buffer of that size is made: the size is that of an index, which may be damaged.
        if self.size(name, descriptor) < offset + size:
            return None
        parts = []
        while size:
            part = os.pread(descriptor, size, offset)  # a read of more than 2 GB is short
            if not part:
                return None
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def size(self, name: str, descriptor: int) -> int:
        """The size of an open file now."""
        size = os.fstat(descriptor).st_size
        if size < self._sizes.get(name, 0):
            self._shrunk[name] = self.times_shrunk(name) + 1
        self._sizes[name] = size
        return size

    def times_shrunk(self, name: str) -> int:
        """How often the file has been shorter than before: what was verified in it no longer is."""
        return self._shrunk.get(name, 0)

    def close(self) -> None:
        """Close the files."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def _descriptor(self, name: str) -> int:
        descriptor = self._descriptors.pop(name, None)
        if descriptor is None:
            while len(self._descriptors) >= _OPEN:
                oldest = next(iter(self._descriptors))
                os.close(self._descriptors.pop(oldest))
            path = self.folder / f"{name}{SEGMENT}"
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        self._descriptors[name] = descriptor
        return descriptor
