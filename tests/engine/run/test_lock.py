from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from datetime import datetime

import pytest

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.lock import RunLock

HOLDER = """
import os, sys, time
from pathlib import Path
from kdspec.engine.run.lock import RunLock
with RunLock(Path(sys.argv[1])):
    worker = os.fork() if "orphan" in sys.argv else None
    if worker == 0:
        time.sleep(60)
    print(worker, flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_process(folder, *options):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), *options],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        process.worker = process.stdout.readline().strip()
        yield process


def test_a_second_process_is_refused_with_the_name_of_the_holder(tmp_path):
    with other_process(tmp_path) as holder:
        for _ in range(2):
            with pytest.raises(FindingError) as caught, RunLock(tmp_path):
                pass
            (diagnostic,) = caught.value.findings
            assert diagnostic.code == "KD505"
            assert str(tmp_path) in diagnostic.message
            assert f"in use by pid {holder.pid} on {socket.gethostname()} since " in diagnostic.message
    with RunLock(tmp_path):
        pass


def test_a_killed_holder_has_let_go_though_its_worker_lives(tmp_path):
    with other_process(tmp_path, "orphan") as holder:
        holder.kill()
        holder.wait()
        worker = int(holder.worker)
        os.kill(worker, 0)
        try:
            with RunLock(tmp_path):
                pass
        finally:
            os.kill(worker, signal.SIGKILL)


def test_the_same_process_is_refused_too_and_the_first_lock_holds(tmp_path):
    with RunLock(tmp_path):
        with pytest.raises(FindingError, match=f"KD505 .*pid {os.getpid()} "), RunLock(tmp_path):
            pass
        probe = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        refused = subprocess.run(
            [sys.executable, "-c", probe, str(tmp_path / ".lock")], capture_output=True, text=True, check=False
        )
        assert "BlockingIOError" in refused.stderr
    with RunLock(tmp_path):
        pass


def test_a_system_without_the_query_for_own_locks_still_locks(tmp_path, monkeypatch):
    real = fcntl.fcntl

    def unknown(descriptor, command, *query):
        if command == fcntl.F_OFD_GETLK:
            raise OSError(22, "invalid argument")
        return real(descriptor, command, *query)

    monkeypatch.setattr(fcntl, "fcntl", unknown)
    with other_process(tmp_path), pytest.raises(FindingError, match="KD505"), RunLock(tmp_path):
        pass
    with RunLock(tmp_path):
        pass


def test_the_file_names_its_holder_and_is_empty_afterwards(tmp_path):
    with RunLock(tmp_path / "runs" / "new"):
        holder = (tmp_path / "runs" / "new" / ".lock").read_text()
        who, since = holder.split(" since ")
        assert who == f"pid {os.getpid()} on {socket.gethostname()}"
        assert datetime.fromisoformat(since.strip()).tzinfo
    assert (tmp_path / "runs" / "new" / ".lock").read_text() == ""


def test_a_shorter_holder_leaves_nothing_of_a_longer_one(tmp_path):
    """A killed holder does not clean up after itself."""
    (tmp_path / ".lock").write_text("pid 1 on a-host-with-a-very-long-name" * 20)
    with RunLock(tmp_path):
        pass
    assert (tmp_path / ".lock").read_text() == ""


def test_it_is_let_go_after_an_error(tmp_path):
    with pytest.raises(KeyError), RunLock(tmp_path):
        _ = {}["missing"]
    with RunLock(tmp_path):
        pass


def test_two_folders_are_two_locks(tmp_path):
    with RunLock(tmp_path / "a"), RunLock(tmp_path / "b"):
        pass


def test_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(FindingError, match="KD508"), RunLock(tmp_path / "run"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_folder_that_cannot_be_made_is_the_users_to_mend(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FindingError, match="KD508"), RunLock(tmp_path / "file" / "run"):
        pass


def without_locks(monkeypatch, number=errno.ENOLCK):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_locks_is_used_all_the_same(tmp_path, monkeypatch, number):
    with RunLock(tmp_path) as lock:
        assert lock.exclusive
    without_locks(monkeypatch, number)
    with RunLock(tmp_path) as lock:
        assert not lock.exclusive
        lock.check()


def test_without_locks_a_process_of_this_machine_is_noticed_by_its_name(tmp_path, monkeypatch):
    without_locks(monkeypatch)
    with other_process(tmp_path) as holder, pytest.raises(FindingError, match=f"KD505 .*pid {holder.pid} "):
        RunLock(tmp_path).__enter__()
    (tmp_path / ".lock").write_text(f"pid {2**22 + 5} on {socket.gethostname()} since 2026-01-01\n")
    with RunLock(tmp_path):
        pass
    (tmp_path / ".lock").write_text(f"pid {os.getpid()} on another since 2026-01-01\n")
    with RunLock(tmp_path):
        pass


def test_another_error_of_a_lock_is_reported(tmp_path, monkeypatch):
    without_locks(monkeypatch, errno.EIO)
    with pytest.raises(FindingError, match="KD508"), RunLock(tmp_path):
        pass
