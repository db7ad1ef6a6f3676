"""Checksums of files: whatever is written, they tell; a large file that was left alone is read once."""

from __future__ import annotations

import hashlib
import os
import time

import pytest

from kdspec.engine.identity import file_digests
from kdspec.engine.identity.file_digests import FileDigests


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file that counts as large and that was left alone for long."""
    monkeypatch.setattr(file_digests, "_LARGE", 10)
    monkeypatch.setattr(file_digests, "_MARGIN", 0)
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"x" * 100)
    time.sleep(0.02)
    return file


@pytest.fixture
def reads(monkeypatch):
    """The files that are read."""
    found = []
    original = file_digests.sha256
    monkeypatch.setattr(file_digests, "sha256", lambda path: found.append(path) or original(path))
    return found


def test_a_large_file_that_was_left_alone_is_read_once(large, reads):
    first = FileDigests({})
    digest = first.of(large)
    assert digest == hashlib.sha256(b"x" * 100).hexdigest()
    assert FileDigests(first.known).of(large) == digest
    assert reads == [large]


def test_other_bytes_of_the_same_size_and_time_are_noticed(large):
    """The time of the content can be set back, that of the inode cannot."""
    first = FileDigests({})
    digest, before = first.of(large), large.stat()
    with large.open("r+b") as file:
        file.write(b"y")
    os.utime(large, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = large.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    assert FileDigests(first.known).of(large) != digest


def test_a_file_in_the_place_of_another_is_noticed(large, tmp_path):
    first = FileDigests({})
    digest, before = first.of(large), large.stat()
    other = tmp_path / "other"
    other.write_bytes(b"z" * 100)
    other.replace(large)
    os.utime(large, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert FileDigests(first.known).of(large) != digest


def test_a_stamp_that_is_too_young_is_not_kept(large, reads, monkeypatch):
    """A write within the resolution of the clock would leave it as it is."""
    monkeypatch.setattr(file_digests, "_MARGIN", 3600 * 10**9)
    first = FileDigests({})
    first.of(large)
    assert first.known == {}
    FileDigests(first.known).of(large)
    assert reads == [large, large]


def test_small_files_are_read_each_time(tmp_path, reads):
    file = tmp_path / "train.csv"
    file.write_text("a")
    digests = FileDigests({})
    assert digests.of(file) == digests.of(file)
    assert reads == [file, file]
    assert digests.known == {}


def test_a_pipe_or_device_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe"):
        FileDigests({}).of(tmp_path / "pipe")


def test_names_count_where_they_decide_what_a_file_is(tmp_path):
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("1")
    digests = FileDigests({})
    assert digests.together([tmp_path / "a"]) == digests.together([tmp_path / "b"]) == digests.of(tmp_path / "a")
    assert digests.together([tmp_path / "a"], named=True) != digests.together([tmp_path / "b"], named=True)
    assert digests.together([]) != digests.together([tmp_path / "a"])
