"""The text of data files."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tracemalloc
import zipfile

import pytest

from kdspec.data.files import file_text
from kdspec.data.files.file_text import FileMistake, beginning, is_at_most, text_of

PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def mistake(action):
    with pytest.raises(FileMistake) as caught:
        action()
    return caught.value


@pytest.mark.parametrize("suffix", PACK)
def test_a_compressed_file_is_read(suffix, write):
    text = "a,b\nä,1\n" * 1000
    path = write(f"a.csv{suffix}", PACK[suffix](text.encode()))
    assert text_of(path) == text
    assert beginning(path, 4) == ("a,b\n", False)
    assert beginning(path, 10**6) == (text, True)
    assert is_at_most(path, 10**6)
    assert not is_at_most(path, 100)


@pytest.mark.parametrize(("suffix", "name"), [(".gz", "gzip"), (".bz2", "bzip2"), (".xz", "xz")])
def test_a_compressed_file_of_another_name_is_told(suffix, name, write):
    data = PACK[suffix](b"a,b\n")
    found = mistake(lambda: text_of(write("a.csv", data)))
    assert found.message == f"the file is compressed by {name}"
    assert f"`{suffix}`" in found.help
    assert text_of(write(f"a.csv{suffix}", data)) == "a,b\n"
    assert mistake(lambda: beginning(write("a.csv", data), 10)).message == found.message


def test_archives_and_other_formats_are_told(write, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
        archive.writestr("a.csv", "a,b")
    assert "zip archive" in mistake(lambda: text_of(tmp_path / "a.xlsx")).message
    assert "zstd" in mistake(lambda: text_of(write("a.csv.zst", b"\x28\xb5\x2f\xfd\x00"))).message
    assert mistake(lambda: text_of(write("a.csv", b"PAR1\x15"))).help == "read it with `parquet`"
    assert text_of(write("a.csv", b"BZhang,1\n")) == "BZhang,1\n"


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_file_is_told(suffix, cut, write):
    content = PACK[suffix](b"abc" * 1000)[:-12] if cut else b"a,b\n"
    assert "is damaged" in mistake(lambda: text_of(write(f"a.csv{suffix}", content))).message


def test_a_compressed_file_that_is_not_there(tmp_path):
    assert "No such file" in mistake(lambda: text_of(tmp_path / "a.csv.gz")).message
    assert "No such file" in mistake(lambda: is_at_most(tmp_path / "a.csv.gz", 1)).message


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_is_told_as_such(coding, write):
    found = mistake(lambda: text_of(write("a.csv", "text,label\nä,1\n".encode(coding))))
    assert found.message == f"this is {coding[:6].upper()}, not UTF-8"
    assert (found.line, found.column, found.help) == (1, 1, "save the file as UTF-8 text")


def test_a_nul_among_other_characters_is_a_character(write):
    assert text_of(write("a.csv", b"text\nab\0cd\n")) == "text\nab\0cd\n"


def test_a_byte_that_is_not_utf8_has_a_place(write):
    found = mistake(lambda: text_of(write("a.csv", "a\n\u00e9\u00e9".encode() + b"\xff\n")))
    assert (found.message, found.line, found.column) == ("this is not UTF-8", 2, 3)


@pytest.mark.parametrize("suffix", PACK)
def test_a_file_that_unpacks_to_more_than_is_free_is_refused_as_it_is_read(tmp_path, monkeypatch, suffix):
    file = tmp_path / f"bomb.csv{suffix}"
    file.write_bytes(PACK[suffix](b"text,label\n" + b"a," * 2_000_000))
    assert file.stat().st_size < 100_000
    monkeypatch.setattr(file_text, "free_memory", lambda: 1_000_000)
    tracemalloc.start()
    with pytest.raises(FileMistake, match=r"at least 0.00\d+ GB unpacked, and 0.001 GB of memory are free"):
        text_of(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    monkeypatch.setattr(file_text, "free_memory", lambda: None)
    assert len(text_of(file)) > 4_000_000


def test_what_is_packed_better_than_any_text_is_refused_whatever_the_memory(tmp_path, monkeypatch):
    file = tmp_path / "bomb.jsonl.gz"
    file.write_bytes(gzip.compress(b" " * 4_000_000))
    monkeypatch.setattr(file_text, "_MUCH", 10**6)
    with pytest.raises(FileMistake, match=r"unpacks to more than 0\.001 GB, more than 500 times its size") as caught:
        text_of(file)
    assert caught.value.help == "no data is packed so well: make the file again from its source"


def test_a_text_of_one_repeated_row_is_data(tmp_path):
    file = tmp_path / "same.csv.gz"
    file.write_bytes(gzip.compress(b"a good film,1\n" * 500_000))
    assert len(text_of(file)) == 14 * 500_000


def test_a_plain_file_larger_than_the_memory_is_refused_unread(tmp_path, monkeypatch):
    file = tmp_path / "rows.csv"
    file.write_bytes(b"a,b\n" * 1000)
    monkeypatch.setattr(file_text, "free_memory", lambda: 3_999)
    with pytest.raises(FileMistake, match="of memory are free"):
        text_of(file)
    assert beginning(file, 3)[0] == "a,b"


@pytest.mark.parametrize("suffix", PACK)
def test_a_bomb_is_not_small(tmp_path, suffix):
    file = tmp_path / f"bomb.csv{suffix}"
    file.write_bytes(PACK[suffix](b"a" * 5_000_000))
    assert not is_at_most(file, 2**22)
    file.write_bytes(PACK[suffix](b"a" * 100_000))
    assert is_at_most(file, 2**22)
