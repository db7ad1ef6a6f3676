"""The index of a store: for each segment a record of the samples computed together, with their places and checksums."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

KEY = 16
"""Bytes of a sample's key."""
CHECKSUM = 16
ELSEWHERE = -1
"""In place of a size: the sample was computed with the others, but is stored in an earlier segment."""

_MAGIC = b"kdspec\x00\x03"
_HEAD = struct.Struct("<8s16s16sqq")
"""Magic, checksum of what follows it, name of the file, offset in it, number of samples."""
_ENTRY = struct.Struct(f"<{KEY}sq{CHECKSUM}s")
_COVERED = 8 + CHECKSUM
_WASTED = 8
"""How often the bytes of an index are read for records that turn out to be damaged, before the rest is given up."""


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One sample of a segment."""

    key: bytes
    size: int
    """In bytes, or `ELSEWHERE`."""
    checksum: bytes


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """One segment: the samples that a teacher has computed in one batch, in the order of that batch."""

    file: str
    """The name of the file without its suffix: 32 hexadecimal digits."""
    offset: int
    entries: tuple[SegmentEntry, ...]

    def encode(self) -> bytes:
        """The bytes of the record, with a checksum of its own."""
        entries = b"".join(_ENTRY.pack(entry.key, entry.size, entry.checksum) for entry in self.entries)
        rest = _HEAD.pack(_MAGIC, b"", bytes.fromhex(self.file), self.offset, len(self.entries))[_COVERED:] + entries
        return _MAGIC + _sum(rest) + rest

    def keys(self) -> tuple[bytes, ...]:
        """The samples that were computed together."""
        return tuple(entry.key for entry in self.entries)

    def places(self) -> Iterator[tuple[SegmentEntry, int]]:
        """The samples that are stored in the segment, each with its offset in the file."""
        at = self.offset
        for entry in self.entries:
            if entry.size != ELSEWHERE:
                yield entry, at
                at += entry.size


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
        at = done = at + _HEAD.size + _ENTRY.size * len(record.entries)
    return found, done


def checksum(key: bytes, content: bytes | bytearray | memoryview) -> bytes:
    """A hash keyed by the sample, so that the value of another sample is detected."""
    return hashlib.blake2b(content, digest_size=CHECKSUM, key=key).digest()


def _decoded(data: bytes, at: int) -> SegmentRecord | None:
    if at + _HEAD.size > len(data):
        return None
    _, expected, file, offset, count = _HEAD.unpack_from(data, at)
    end = at + _HEAD.size + _ENTRY.size * count
    if not 0 < count <= len(data) or offset < 0 or end > len(data) or _sum(data[at + _COVERED : end]) != expected:
        return None
    entries = tuple(SegmentEntry(*parts) for parts in _ENTRY.iter_unpack(data[at + _HEAD.size : end]))
    return SegmentRecord(file.hex(), offset, entries)


def _claimed(data: bytes, at: int) -> int:
    """The bytes that a head says its record has; 0 if they are not there."""
    count: int = _HEAD.unpack_from(data, at)[4] if at + _HEAD.size <= len(data) else 0
    return _ENTRY.size * count if 0 < _ENTRY.size * count <= len(data) - at else 0


def _sum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=CHECKSUM).digest()


def segment(
    file: str, offset: int, keys: Sequence[bytes], contents: Sequence[bytes | bytearray | None]
) -> SegmentRecord:
    """The record of a segment; the content is None for a sample that is stored elsewhere."""
    entries = tuple(
        SegmentEntry(key, ELSEWHERE, bytes(CHECKSUM))
        if content is None
        else SegmentEntry(key, len(content), checksum(key, content))
        for key, content in zip(keys, contents, strict=True)
    )
    return SegmentRecord(file, offset, entries)
