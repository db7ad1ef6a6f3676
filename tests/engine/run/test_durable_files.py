from __future__ import annotations

import errno
import hashlib
import os
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.durable_files import atomic_write, can_sync, cannot_write, sha256


@contextmanager
def files_no_larger_than(size):
    """A real refusal by the system in the middle of a write, as a full disk would give."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "plan.json"
    atomic_write(path, "früher")
    atomic_write(path, b"later")
    assert path.read_bytes() == b"later"
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_a_refused_write_leaves_the_older_file_and_nothing_else(tmp_path):
    path = tmp_path / "plan.json"
    atomic_write(path, "older")
    with files_no_larger_than(1000), pytest.raises(FindingError) as caught:
        atomic_write(path, "x" * 5000)
    (diagnostic,) = caught.value.findings
    assert diagnostic.code == "KD508"
    assert str(path) in diagnostic.message
    assert "file too large" in diagnostic.message
    assert "5000 bytes are needed" in diagnostic.notes
    assert path.read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_a_missing_folder_is_the_users_to_mend(tmp_path):
    with pytest.raises(FindingError, match=r"KD508 .*no such file or directory"):
        atomic_write(tmp_path / "gone" / "plan.json", "")


def test_an_interrupt_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "plan.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == []


def test_contents_are_on_the_disk_before_the_name_and_the_name_before_returning(tmp_path, monkeypatch):
    happened = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor):
        happened.append("folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file")
        fsync(descriptor)

    def recorded_replace(*names):
        happened.append("rename")
        replace(*names)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    atomic_write(tmp_path / "plan.json", "new")
    assert happened == ["file", "rename", "folder"]


def test_a_full_disk_is_reported_with_needed_and_free_bytes(tmp_path):
    (diagnostic,) = cannot_write(tmp_path / "no" / "such" / "folder", OSError(28, "whatever"), 10**18).findings
    assert "no space left on device" in diagnostic.message
    assert diagnostic.notes[0] == f"{10**18} bytes are needed"
    assert diagnostic.notes[1].endswith("bytes are free there")
    assert diagnostic.help == "free some space on this disk"


@pytest.mark.parametrize(
    ("number", "helps"),
    [
        (errno.EACCES, "change the permissions of the folder"),
        (errno.EROFS, "choose another folder"),
        (errno.EDQUOT, "free some of your quota"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EIO, "look at the disk"),
        (errno.ESTALE, "check that the folder exists"),
    ],
)
def test_what_helps_depends_on_why_a_file_cannot_be_written(tmp_path, number, helps):
    (diagnostic,) = cannot_write(tmp_path / "file", OSError(number, "whatever"), 1).findings
    assert helps in diagnostic.help


@pytest.mark.parametrize(
    ("name", "helps"), [("n" * 300, "shorten the name of the run or of the stage"), ("file/inner", "move the file")]
)
def test_a_name_that_cannot_be_is_not_a_lack_of_space(tmp_path, name, helps):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(FindingError, match="KD508") as caught:
        atomic_write(tmp_path / name, "new")
    assert helps in caught.value.findings[0].help
    atomic_write(tmp_path / "other", "new")


def test_the_checksum_is_that_of_the_contents(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 100_000)
    assert sha256(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
@pytest.mark.parametrize("folders_only", [True, False])
def test_a_file_system_that_cannot_sync_is_written_to_all_the_same(tmp_path, monkeypatch, number, folders_only):
    fsync = os.fsync

    def of_files(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").is_dir() or not folders_only:
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    assert can_sync(tmp_path)
    monkeypatch.setattr(os, "fsync", of_files)
    atomic_write(tmp_path / "plan.json", "new")
    assert (tmp_path / "plan.json").read_text() == "new"
    assert not can_sync(tmp_path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_to_sync_is_reported(tmp_path, monkeypatch, number):
    def refuse(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(FindingError, match="KD508"):
        atomic_write(tmp_path / "plan.json", "new")
