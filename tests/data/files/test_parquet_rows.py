"""A Parquet file takes no more memory than there is, however small it is."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdspec.data.files import file_text
from kdspec.data.files.file_text import FileMistake
from kdspec.data.files.parquet_rows import read_parquet

LARGE = "x" * 1_000_000


def repeated(value, rows):
    """A column that has one value in all rows, and takes the memory of one."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([value]))


def bomb(table, file, **options):
    """A file of the plain columns of a table that has dictionaries, a few rows at a time."""
    plain = pa.schema([(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in table.schema])
    with pq.ParquetWriter(file, plain, compression="zstd", **options) as writer:
        writer.write_table(table.cast(plain), row_group_size=len(table))


@pytest.fixture
def scarce(monkeypatch):
    """Sets how much memory is free."""
    return lambda size: monkeypatch.setattr(file_text, "free_memory", lambda: size)


@pytest.fixture
def files(tmp_path):
    """Files of a few kB that unpack to 40 MB or more, by what is in them."""
    made = {}

    def write(name, table, **options):
        made[name] = tmp_path / f"{name}.parquet"
        bomb(table, made[name], **options)

    write("text", pa.table({"text": repeated(LARGE, 40), "label": [1] * 40}))
    write("words", pa.table({"words": [[LARGE[:100_000]] * 10] * 40}))
    write("inner", pa.table({"answer": [{"text": [LARGE[:500_000]], "start": [1]}] * 80}))
    write("numbers", pa.table({"label": pa.array([7] * 5_000_000)}))
    write(
        "prefixes", pa.table({"text": [LARGE] * 40}), use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"}
    )
    return made


@pytest.mark.parametrize("name", ["text", "words", "inner", "numbers", "prefixes"])
def test_what_does_not_fit_is_refused_before_it_is_read(name, files, scarce, monkeypatch):
    file = files[name]
    assert file.stat().st_size < 1_100_000
    scarce(30_000_000)
    read = pq.ParquetFile.read
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_: pytest.fail("it takes the memory"))
    with pytest.raises(
        FileMistake, match=r"the file has at least .* GB unpacked, and 0.03 GB of memory are free"
    ) as caught:
        read_parquet(file)
    assert caught.value.help == "split the file, keep fewer rows of it, or use a machine with more memory"
    scarce(400_000_000)
    monkeypatch.setattr(pq.ParquetFile, "read", read)
    assert read_parquet(file).equals(pq.read_table(file))


def test_two_gigabytes_from_a_small_file_are_refused_whatever_the_memory(tmp_path, scarce):
    file = tmp_path / "bomb.parquet"
    plain = pa.schema([("text", pa.string())])
    with pq.ParquetWriter(file, plain, compression="zstd") as writer:
        for _ in range(40):
            writer.write_table(pa.table({"text": [LARGE] * 50}), row_group_size=50)
    assert file.stat().st_size < 300_000
    scarce(10**15)
    with pytest.raises(FileMistake, match=r"unpacks to more than 1\.07 GB, more than 500 times its size"):
        read_parquet(file)


def test_equal_labels_of_many_rows_are_data(tmp_path):
    """A column of one class takes a few bytes in the file."""
    file = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"text": ["a", "b"] * 500_000, "label": ["fine"] * 1_000_000}), file)
    assert len(read_parquet(file)) == 1_000_000


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_a_damaged_file_cannot_be_read(tmp_path, cut):
    file = tmp_path / "damaged.parquet"
    pq.write_table(pa.table({"text": ["a"] * 100}), file)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(FileMistake, match="the file cannot be read"):
        read_parquet(file)
