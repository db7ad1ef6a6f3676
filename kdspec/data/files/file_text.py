"""The text of a data file, which may be compressed, and mistakes in it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from kdspec.data.free_memory import free_memory

_SMALL_PART = 20
"""A text may be this many times as large as the compressed file."""
_LOOKED_AT = 1000
_MUCH = 2**30
_MOST_TIMES = 500
"""What unpacks to more than `_MUCH` bytes has at most so many times the bytes of its file."""
_PART = 2**20

_OPEN: Mapping[str, Callable[[Path], IO[bytes]]] = MappingProxyType(
    {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}  # type: ignore[dict-item] # of bytes in their default mode
)
_MARKS: Mapping[bytes, tuple[str, str]] = MappingProxyType(
    {
        b"\x1f\x8b": ("compressed by gzip", "give it a name that ends in `.gz`, or decompress it"),
        b"BZh": ("compressed by bzip2", "give it a name that ends in `.bz2`, or decompress it"),
        b"\xfd7zXZ\0": ("compressed by xz", "give it a name that ends in `.xz`, or decompress it"),
        b"\x28\xb5\x2f\xfd": ("compressed by zstd", "decompress it"),
        b"PK\x03\x04": ("a zip archive, as spreadsheets are", "extract the file, or export the sheet as CSV"),
        b"PAR1": ("a Parquet file", "read it with `parquet`"),
    }
)
_UTF8 = "save the file as UTF-8 text"


class FileMistake(Exception):  # noqa: N818 - the user's mistake, not an error of the program
    """An error in a file: message, line and column (counted from 1; 0 without a place in the text), and fix."""

    def __init__(self, message: str, line: int = 0, column: int = 0, help: str | None = None) -> None:  # noqa: A002 - as in a diagnostic
        super().__init__(message)
        self.message, self.line, self.column, self.help = message, line, column, help


class Unpacked:
    """Counts the bytes that a file unpacks to, and refuses what there is no memory for.

    Text is packed to a fiftieth of its size; what is packed far better was made to fill the memory.

    Args:
        packed: the bytes of the file.
    """

    def __init__(self, packed: int) -> None:
        self.packed, self.total, self.free = packed, 0, free_memory()

    def add(self, size: int) -> None:
        """Count `size` bytes more, before they are kept.

        Raises:
            FileMistake: they are too many.
        """
        self.total += size
        if self.free is not None and self.total > self.free:
            message = f"the file has at least {_gigabytes(self.total)} unpacked, and {_gigabytes(self.free)} of memory are free"
            raise FileMistake(message, help="split the file, keep fewer rows of it, or use a machine with more memory")
        if self.total > _MUCH and self.total > _MOST_TIMES * self.packed:
            times = f"more than {_MOST_TIMES} times its size"
            message = f"the file has {self.packed:,} bytes, and unpacks to more than {_gigabytes(_MUCH)}, {times}"
            raise FileMistake(message, help="no data is packed so well: make the file again from its source")


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB"


def text_of(file: Path) -> str:
    """The whole file, decompressed if its name ends in `.gz`, `.bz2` or `.xz`, and decoded as UTF-8."""
    data = _read(file)
    _refuse_utf16(data)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        start = data.rfind(b"\n", 0, error.start) + 1
        column = len(data[start : error.start].decode("utf-8", "replace")) + 1
        raise FileMistake("this is not UTF-8", line, column, _UTF8) from error


def beginning(file: Path, size: int) -> tuple[str, bool]:
    """The text of the first `size` bytes, with U+FFFD for what is not UTF-8, and whether it is the whole file."""
    data = _read(file, size + 1)
    _refuse_utf16(data)
    return data[:size].decode("utf-8-sig", "replace"), len(data) <= size


def is_at_most(file: Path, size: int) -> bool:
    """Whether a file's text has no more bytes than `size`; of a compressed file that is unlikely to, it is not tried."""
    compressed = file.suffix.lower() in _OPEN
    try:
        if file.stat().st_size * (_SMALL_PART if compressed else 1) > size:
            return False
        return not compressed or len(_read(file, size + 1)) <= size
    except OSError as error:
        raise _unreadable(error) from error


def _read(file: Path, size: int = -1) -> bytes | bytearray:
    compressed = file.suffix.lower() in _OPEN
    try:
        with open(file, "rb") as stream:  # noqa: PTH123 - a NUL byte in the name is a ValueError in both
            packed = os.fstat(stream.fileno()).st_size
            start = stream.read(len(max(_MARKS, key=len)))
            known = next((about for mark, about in _MARKS.items() if _is(mark, start)), None)
            if known is not None and not compressed:
                raise FileMistake(f"the file is {known[0]}", help=known[1])
            if not compressed:
                if size < 0:
                    Unpacked(packed).add(packed)
                return start + stream.read(size if size < 0 else max(size - len(start), 0))
        with _OPEN[file.suffix.lower()](file) as stream:
            return stream.read(size) if size >= 0 else _whole(stream, Unpacked(packed))
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise FileMistake(_damaged(file), help="compress it again, or decompress it") from error
    except (OSError, ValueError) as error:
        if compressed and os.path.isfile(file) and not getattr(error, "strerror", None):  # noqa: PTH113 - raises nothing
            raise FileMistake(_damaged(file), help="compress it again, or decompress it") from error
        raise _unreadable(error) from error


def _whole(stream: IO[bytes], unpacked: Unpacked) -> bytes | bytearray:
    found = bytearray()
    while part := stream.read(_PART):
        unpacked.add(len(part))
        found += part
    return found


def _is(mark: bytes, start: bytes) -> bool:
    # `BZh` alone could begin a text; a digit follows it, and a block's magic number.
    return start.startswith(mark) and (mark != b"BZh" or start[3:4].isdigit())


def _damaged(file: Path) -> str:
    return f"the file is not compressed as `{file.suffix}` says, or is damaged"


def _unreadable(error: OSError | ValueError) -> FileMistake:
    return FileMistake(f"the file cannot be read: {getattr(error, 'strerror', None) or error}")


def _refuse_utf16(data: bytes | bytearray) -> None:
    start = data[:_LOOKED_AT]
    zeros = start.count(b"\0")
    for code, marks in (("UTF-32", (b"\xff\xfe\0\0", b"\0\0\xfe\xff")), ("UTF-16", (b"\xff\xfe", b"\xfe\xff"))):
        if start.startswith(marks):
            raise FileMistake(f"this is {code}, not UTF-8", 1, 1, _UTF8)
    if zeros and zeros in (start[::2].count(0), start[1::2].count(0)) and zeros * 4 > len(start):
        raise FileMistake("this is UTF-16, not UTF-8", 1, 1, _UTF8)


def kind_of(value: Any) -> str:
    """What a value of JSON is, for a message."""
    kinds = ((bool, "a boolean"), ((int, float), "a number"), (str, "a text"), (list, "a list"), (dict, "an object"))
    return next((kind for type_, kind in kinds if isinstance(value, type_)), "null")
