"""The reader of Parquet files, which measures what a file unpacks to before it takes the memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kdspec.data.files.file_text import FileMistake, Unpacked
from kdspec.data.files.row_files import line

_WIDTHS: Mapping[str, int] = MappingProxyType(
    {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 8, "FLOAT": 4, "DOUBLE": 8, "FIXED_LEN_BYTE_ARRAY": 1}
)
_OFFSET = 4
"""Bytes of a text besides its characters."""
_UNMEASURED = 64 * 2**20
"""A column that cannot be larger is not measured, nor one that cannot take a tenth of the memory."""
_ROWS = 4096
_FEW_ROWS = 64
_PREFIXES = "DELTA_BYTE_ARRAY"


def read_parquet(file: Path) -> Any:
    """All rows as an Arrow table.

    A file may say once what stands in a million rows, so its size says nothing of the memory that it takes.

    Raises:
        FileMistake: the file cannot be read, or unpacks to more than there is memory for.
    """
    import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it comes without types

    try:
        unpacked = Unpacked(file.stat().st_size)
        opened = pq.ParquetFile(file)
        unpacked.add(sum(_declared(column) for column in _columns(opened.metadata)))
        _measure(file, opened.metadata, unpacked)
        return opened.read()
    except (pa.ArrowException, OSError) as error:
        raise FileMistake(f"the file cannot be read: {line(error)}") from error


def _columns(metadata: Any) -> Iterator[Any]:
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            yield metadata.row_group(group).column(number)


def _is_text(column: Any) -> bool:
    return bool(column.physical_type == "BYTE_ARRAY")


def _repeats(column: Any) -> bool:
    """Whether a value of texts may stand in the file once for several rows."""
    return any("DICTIONARY" in name or name == _PREFIXES for name in column.encodings)


def _declared(column: Any) -> int:
    """The bytes that the values of a column of a row group take at least."""
    if not _is_text(column):
        return max(int(column.num_values) * _WIDTHS.get(column.physical_type, 1), 0)
    return int(column.num_values) * _OFFSET + (0 if _repeats(column) else int(column.total_uncompressed_size))


def _measure(file: Path, metadata: Any, unpacked: Unpacked) -> None:
    """Count the texts that the file has once for several rows, without making them."""
    import pyarrow.parquet as pq

    of: dict[str, list[Any]] = {}
    for column in _columns(metadata):
        if _is_text(column):
            of.setdefault(column.path_in_schema, []).append(column)
    least = _UNMEASURED if unpacked.free is None else min(_UNMEASURED, unpacked.free // 10)
    wanted = {
        path: any(_PREFIXES in column.encodings for column in columns)
        for path, columns in of.items()
        if any(map(_repeats, columns)) and sum(c.num_values * c.total_uncompressed_size for c in columns) > least
    }
    for paths, size in (([p for p, prefixes in wanted.items() if prefixes], _FEW_ROWS),
                        ([p for p, prefixes in wanted.items() if not prefixes], _ROWS)):  # fmt: skip
        if not paths:
            continue
        # A dictionary is read as one; texts with common beginnings cannot be, so few of them are made at once.
        opened = pq.ParquetFile(file, read_dictionary=paths if size == _ROWS else None)
        for batch in opened.iter_batches(batch_size=size, columns=paths):
            unpacked.add(sum(map(_length, batch.columns)))


def _length(array: Any) -> int:
    """The bytes of all texts in an array."""
    import pyarrow as pa
    import pyarrow.compute as pc  # type: ignore[import-untyped]  # it comes without types

    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(array.dictionary).cast(pa.int64())
        return pc.sum(lengths.take(array.indices)).as_py() or 0
    if pa.types.is_struct(kind):
        return sum(_length(array.field(number)) for number in range(kind.num_fields))
    if pa.types.is_map(kind):
        return _length(array.keys) + _length(array.items)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _length(array.flatten())
    return int(array.nbytes)
