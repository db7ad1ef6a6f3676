"""The index of a store: for each segment a record of the samples computed together, with their places and checksums."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEY = 16
"""Bytes of a sample's key."""
CHECKSUM = 16
ELSEWHERE = -1
"""In place of a size: the sample was computed with the others, but is stored in an earlier segment."""
ENTRY = np.dtype([("key", f"S{KEY}"), ("size", "<i8"), ("checksum", f"V{CHECKSUM}")])
"""One sample of a segment: its size is in bytes, or `ELSEWHERE`."""

_MAGIC = b"kdspec\x00\x03"
_HEAD = struct.Struct("<8s16s16sqq")
"""Magic, checksum of what follows it, name of the file, offset in it, number of samples."""
_COVERED = 8 + CHECKSUM
_WASTED = 8
"""How often the bytes of an index are read for records that turn out to be damaged, before the rest is given up."""
_LARGEST = 2**48
"""Offsets and sizes are smaller: their sums do not overflow."""


@dataclass(frozen=True, slots=True, eq=False)
class SegmentRecord:
    """One segment: the samples that a teacher has computed in one batch, in the order of that batch."""

    file: str
    """The name of the file without its suffix: 32 hexadecimal digits."""
    offset: int
    entries: NDArray[Any]
    """An `ENTRY` for each sample."""

    def encode(self) -> bytes:
        """The bytes of the record, with a checksum of its own."""
        head = _HEAD.pack(_MAGIC, b"", bytes.fromhex(self.file), self.offset, len(self.entries))
        rest = head[_COVERED:] + self.entries.tobytes()
        return _MAGIC + _sum(rest) + rest

    def keys(self) -> tuple[bytes, ...]:
        """The samples that were computed together."""
        return tuple(keys_of(self.entries["key"]))

    def stored(self) -> NDArray[np.int64]:
        """The numbers of the entries whose samples are stored in the segment."""
        return np.flatnonzero(self.entries["size"] != ELSEWHERE)

    def offsets(self) -> NDArray[np.int64]:
        """The offset in the file of each stored sample."""
        sizes = self.entries["size"][self.stored()]
        return np.asarray(self.offset + np.cumsum(sizes) - sizes, np.int64)


def keys_of(array: NDArray[Any]) -> list[bytes]:
    """Keys as bytes; numpy would cut their last zeros off."""
    data = array.tobytes()
    return [data[start : start + KEY] for start in range(0, len(data), KEY)]


def records(data: bytes) -> tuple[list[SegmentRecord], int]:
    """The records in a part of an index, and how many of its bytes need not be read again.

    Damaged records are skipped. An incomplete record at the end may still be growing, so it is read again.
    """
    found: list[SegmentRecord] = []
    at = done = 0
    wasted = 0
    while (at := data.find(_MAGIC, at)) >= 0:
        record = _decoded(data, at)
        if record is None:
            # Checksums of what a damaged head claims: with many of them the time would grow with the square of the size.
            wasted += _claimed(data, at)
            if wasted > _WASTED * len(data):
                break
            at += 1
            continue
        found.append(record)
        at = done = at + _HEAD.size + ENTRY.itemsize * len(record.entries)
    return found, done


def checksum(key: bytes, content: bytes | bytearray | memoryview) -> bytes:
    """A hash keyed by the sample, so that the value of another sample is detected."""
    return hashlib.blake2b(content, digest_size=CHECKSUM, key=key).digest()


def _claimed(data: bytes, at: int) -> int:
    """The bytes that a head says its record has; 0 if they are not there."""
    count: int = _HEAD.unpack_from(data, at)[4] if at + _HEAD.size <= len(data) else 0
    return ENTRY.itemsize * count if 0 < ENTRY.itemsize * count <= len(data) - at else 0


def segment(
    file: str, offset: int, keys: Sequence[bytes], contents: Sequence[bytes | bytearray | None]
) -> SegmentRecord:
    """The record of a segment; the content is None for a sample that is stored elsewhere."""
    entries = np.array(
        [
            (key, ELSEWHERE, bytes(CHECKSUM)) if content is None else (key, len(content), checksum(key, content))
            for key, content in zip(keys, contents, strict=True)
        ],
        ENTRY,
    )
    return SegmentRecord(file, offset, entries)


def _decoded(data: bytes, at: int) -> SegmentRecord | None:
    if at + _HEAD.size > len(data):
        return None
    _, expected, file, offset, count = _HEAD.unpack_from(data, at)
    end = at + _HEAD.size + ENTRY.itemsize * count
    if not 0 < count <= len(data) or end > len(data) or _sum(memoryview(data)[at + _COVERED : end]) != expected:
        return None
    entries = np.frombuffer(data, ENTRY, count, at + _HEAD.size)
    sizes = entries["size"]
    if not 0 <= offset < _LARGEST or int(sizes.min()) < ELSEWHERE or int(sizes.max()) >= _LARGEST // count:
        return None
    return SegmentRecord(file.hex(), offset, entries)


def _sum(content: bytes | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=CHECKSUM).digest()
