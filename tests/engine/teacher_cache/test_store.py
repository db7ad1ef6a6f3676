"""The files of a cache: samples that are whole or absent, whoever writes them, and never other ones than were read."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest

from kdspec.engine.teacher_cache import store as module
from kdspec.engine.teacher_cache.catalogue import ABOUT, INDEX
from kdspec.engine.teacher_cache.store import SEGMENT, CacheDamage, Store

KEYS = tuple(bytes([number]) * 16 for number in range(3))
CONTENT = (b"a" * 8, b"b" * 16, b"c" * 8)


@pytest.fixture
def opened(tmp_path):
    made = []

    def make():
        made.append(Store(tmp_path / "cache", {"teacher": "large"}))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def segments(tmp_path):
    return lambda: sorted((tmp_path / "cache").glob(f"*{SEGMENT}"))


def overwrite(path, at, content):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def test_samples_are_there_once_they_are_written(opened):
    store = opened()
    assert not store.has(KEYS[1])
    store.write(KEYS[:2], CONTENT[:2])
    assert store.has(KEYS[0])
    assert store.has(KEYS[1])
    assert not store.has(KEYS[2])
    assert bytes(store.view(KEYS[1])) == CONTENT[1]
    assert [key in store for key in KEYS] == [True, True, False]
    assert store.size == 24


def test_another_process_sees_them(opened):
    reader, writer = opened(), opened()
    writer.write(KEYS[:1], CONTENT[:1])
    assert not reader.has(KEYS[0])
    reader.refresh()
    assert bytes(reader.view(KEYS[0])) == CONTENT[0]
    writer.write(KEYS[1:], CONTENT[1:])
    reader.refresh()
    assert bytes(reader.view(KEYS[2])) == CONTENT[2]


def test_a_sample_that_was_written_is_never_another_one(opened):
    """What a run has read it reads again, whatever another has computed beside it."""
    first, second = opened(), opened()
    first.write(KEYS[:1], CONTENT[:1])
    second.write(KEYS[:2], [b"z" * 8, CONTENT[1]])
    for store in (first, second, opened()):
        store.refresh()
        assert bytes(store.view(KEYS[0])) == CONTENT[0]
        assert bytes(store.view(KEYS[1])) == CONTENT[1]
    assert opened().size == 24


def test_a_segment_that_was_begun_does_not_count_and_is_removed(opened, segments, monkeypatch):
    store, real = opened(), module._write
    monkeypatch.setattr(
        module,
        "_write",
        lambda *a: (_ for _ in ()).throw(KeyboardInterrupt) if a[0] == store._index else real(*a),
    )
    with pytest.raises(KeyboardInterrupt):
        store.write(KEYS[:2], CONTENT[:2])
    monkeypatch.undo()
    assert not opened().has(KEYS[1])
    assert len(segments()) == 1, "it is in use"
    os.close(store._own[1])
    store._own = None
    assert not opened().has(KEYS[1])
    assert segments() == []


def test_a_half_written_record_is_ignored_and_later_ones_are_read(opened, monkeypatch, tmp_path):
    first, real = opened(), os.pwrite

    def killed(descriptor, content, offset):
        if descriptor == first._index:
            real(descriptor, content[:70], offset)
            raise KeyboardInterrupt
        return real(descriptor, content, offset)

    monkeypatch.setattr(os, "pwrite", killed)
    with pytest.raises(KeyboardInterrupt):
        first.write(KEYS[:2], CONTENT[:2])
    monkeypatch.undo()
    second = opened()
    assert KEYS[0] not in second
    second.write(KEYS[1:], CONTENT[1:])
    assert [key in opened() for key in KEYS] == [False, True, True]


def test_damage_is_found_once_and_then_the_sample_is_absent(opened, segments):
    opened().write(KEYS, CONTENT)
    overwrite(segments()[0], 9, b"x")
    store = opened()
    assert store.has(KEYS[0])
    with pytest.raises(CacheDamage):
        store.has(KEYS[1])
    assert not store.has(KEYS[1])
    assert store.together(KEYS[1]) == KEYS
    store.write(KEYS, [b"z" * 8, CONTENT[1], b"z" * 8])
    for other in (store, opened()):
        assert [bytes(other.view(key)) for key in KEYS if other.has(key)] == list(CONTENT)


def test_what_a_damaged_sample_was_computed_with_is_known_after_it_was_repaired(opened, segments):
    opened().write(KEYS, CONTENT)
    (first,) = segments()
    overwrite(first, 9, b"x")
    store = opened()
    with pytest.raises(CacheDamage):
        store.has(KEYS[1])
    store.write(KEYS, CONTENT)
    (second,) = (path for path in segments() if path != first)
    overwrite(second, 0, b"x")
    again = opened()
    with pytest.raises(CacheDamage):
        again.has(KEYS[1])
    assert again.together(KEYS[1]) == KEYS


@pytest.mark.parametrize("at", range(0, 150, 7))
def test_a_damaged_index_makes_samples_absent_and_no_other_ones(at, opened, tmp_path):
    opened().write(KEYS[:1], CONTENT[:1])
    opened().write(KEYS[1:], CONTENT[1:])
    index = tmp_path / "cache" / INDEX
    overwrite(index, at, bytes([index.read_bytes()[at] ^ 64]))
    store = opened()
    there = [key in store for key in KEYS]
    assert there in ([True, False, False], [False, True, True])
    assert [bytes(store.view(key)) for key in KEYS if store.has(key)] == [
        content for content, has in zip(CONTENT, there, strict=True) if has
    ]


def test_an_index_that_is_lost_takes_its_segments_with_it(opened, segments, tmp_path):
    first = opened()
    first.write(KEYS, CONTENT)
    first.close()
    first.__init__(tmp_path / "cache", {})
    (tmp_path / "cache" / INDEX).unlink()
    assert KEYS[0] not in opened()
    assert segments() == []


def test_a_sample_in_the_place_of_another_is_damage(opened, segments):
    opened().write(KEYS[::2], CONTENT[::2])
    overwrite(segments()[0], 8, CONTENT[0])
    store = opened()
    assert store.has(KEYS[0])
    with pytest.raises(CacheDamage):
        store.has(KEYS[2])


@pytest.mark.parametrize("left", [0, 7, 12])
def test_a_truncated_segment_is_damage(left, opened, segments):
    opened().write(KEYS, CONTENT)
    os.truncate(segments()[0], left)
    with pytest.raises(CacheDamage):
        opened().has(KEYS[1])


def test_a_full_disk_leaves_the_samples_absent(opened, monkeypatch):
    store = opened()
    taken = []

    def full(descriptor, content, offset):
        if taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken.append(offset)
        return 3

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        store.write(KEYS[:1], CONTENT[:1])
    monkeypatch.undo()
    assert not store.has(KEYS[0])
    store.write(KEYS[:1], CONTENT[:1])
    assert bytes(opened().view(KEYS[0])) == CONTENT[0]


def test_the_folder_describes_its_contents(opened, tmp_path):
    opened()
    assert json.loads((tmp_path / "cache" / ABOUT).read_text()) == {"teacher": "large"}


def test_a_link_is_not_followed(opened, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "precious").write_text("text")
    (tmp_path / "cache" / INDEX).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        opened()
    assert (tmp_path / "precious").read_text() == "text"


_HOLDER = """
import sys
from pathlib import Path
from kdspec.engine.teacher_cache.store import Store
store = Store(Path(sys.argv[1]), {})
keys = [bytes([1]) * 16]
with store.alone(keys):
    print("held", flush=True)
    sys.stdin.readline()
    store.write(keys, [b"b" * 16])
"""


def test_one_process_waits_for_the_other(opened, tmp_path):
    store = opened()
    command = [sys.executable, "-c", _HOLDER, str(tmp_path / "cache")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with store.alone(KEYS[:1]):  # other samples are free
            assert not store.has(KEYS[1])
        other.stdin.write("go on\n")
        other.stdin.flush()
        with store.alone(KEYS[1:2]):
            assert store.has(KEYS[1])


_WRITER = """
import sys
from pathlib import Path
from kdspec.engine.teacher_cache.store import Store
store = Store(Path(sys.argv[1]), {})
print("ready", flush=True)
sys.stdin.readline()
for number in range(200):
    keys = [bytes([number, other]) * 8 for other in range(3)]
    store.write(keys, [sys.argv[2].encode() * (number + 1)] * 3)
"""


def test_two_processes_that_write_the_same_at_once_agree_on_what_is_kept(opened, tmp_path):
    command = [sys.executable, "-c", _WRITER, str(tmp_path / "cache")]
    writers = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in "xy"
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n")
        assert not writer.returncode
    store = opened()
    for number in range(200):
        for other in range(3):
            key = bytes([number, other]) * 8
            assert store.has(key)
            assert len(store._places[key]) == 1
            assert bytes(store.view(key)) in (b"x" * (number + 1), b"y" * (number + 1))
