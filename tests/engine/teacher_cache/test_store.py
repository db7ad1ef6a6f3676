"""The files of a cache: blocks that are whole or absent, whoever writes them."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from kdspec.engine.teacher_cache import store as module
from kdspec.engine.teacher_cache.store import ABOUT, DATA, CacheDamage, Store

STARTS = np.array([0, 8, 24, 32])
CONTENT = (b"a" * 8, b"b" * 16, b"c" * 8)


@pytest.fixture
def opened(tmp_path):
    made = []

    def make(starts=STARTS):
        made.append(Store(tmp_path / "cache", starts, {"rows": 3}))
        return made[-1]

    yield make
    for store in made:
        store.close()


def test_a_block_is_there_once_it_is_written(opened):
    store = opened()
    assert not store.has(1)
    store.write(1, CONTENT[1])
    assert store.has(1)
    assert not store.has(0)
    assert bytes(store.view[8:24]) == CONTENT[1]
    assert store.count() == 1


def test_another_process_sees_it(opened):
    reader, writer = opened(), opened()
    assert not reader.has(0)
    writer.write(0, CONTENT[0])
    assert reader.has(0)
    assert bytes(reader.view[:8]) == CONTENT[0]


def test_a_block_that_was_begun_does_not_count(opened, monkeypatch):
    store, real = opened(), module._write
    monkeypatch.setattr(
        module,
        "_write",
        lambda *a: (_ for _ in ()).throw(KeyboardInterrupt) if len(a[1]) == 16 and a[2] == 16 else real(*a),
    )
    with pytest.raises(KeyboardInterrupt):
        store.write(1, CONTENT[1])
    monkeypatch.undo()
    assert not opened().has(1)


def test_damage_is_found_once_and_then_the_block_is_absent(opened, tmp_path):
    first = opened()
    for block, content in enumerate(CONTENT):
        first.write(block, content)
    with (tmp_path / "cache" / DATA).open("r+b") as file:
        file.seek(9)
        file.write(b"x")
    store = opened()
    assert store.has(0)
    with pytest.raises(CacheDamage):
        store.has(1)
    assert not store.has(1)
    store.write(1, CONTENT[1])
    assert opened().has(1)


def test_a_block_in_the_place_of_another_is_damage(opened, tmp_path):
    first = opened()
    first.write(0, CONTENT[0])
    first.write(2, CONTENT[0])
    index = tmp_path / "cache" / module.INDEX
    data = index.read_bytes()
    index.write_bytes(data[:32] + data[:16])
    with pytest.raises(CacheDamage):
        opened().has(2)


def test_a_full_disk_leaves_the_block_absent(opened, monkeypatch):
    store = opened()
    taken = []

    def full(descriptor, content, offset):
        if taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken.append(offset)
        return 3

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        store.write(0, CONTENT[0])
    monkeypatch.undo()
    assert not store.has(0)


def test_the_folder_tells_what_it_holds(opened, tmp_path):
    opened()
    assert json.loads((tmp_path / "cache" / ABOUT).read_text()) == {"rows": 3}


def test_a_link_is_not_followed(opened, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "precious").write_text("text")
    (tmp_path / "cache" / DATA).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        opened()
    assert (tmp_path / "precious").read_text() == "text"


_HOLDER = """
import sys, numpy as np
from pathlib import Path
from kdspec.engine.teacher_cache.store import Store
store = Store(Path(sys.argv[1]), np.array([0, 8, 24, 32]), {})
with store.alone(1):
    print("held", flush=True)
    sys.stdin.readline()
    store.write(1, b"b" * 16)
"""


def test_one_process_waits_for_the_other(opened, tmp_path):
    store = opened()
    command = [sys.executable, "-c", _HOLDER, str(tmp_path / "cache")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with store.alone(0):  # another block is free
            assert not store.has(1)
        other.stdin.write("go on\n")
        other.stdin.flush()
        with store.alone(1):
            assert store.has(1)
