"""The files of a cache: samples that are whole or absent, whoever writes them, and never other ones than were read."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdspec.engine.teacher_cache import store as module
from kdspec.engine.teacher_cache.catalogue import ABOUT, INDEX
from kdspec.engine.teacher_cache.segment_index import segment
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


def there(store):
    """Which of the samples a store has."""
    return (~store.absent(np.frombuffer(b"".join(KEYS), "S16"))).tolist()


def test_samples_are_there_once_they_are_written(opened):
    store = opened()
    assert not store.has(KEYS[1])
    store.write(KEYS[:2], CONTENT[:2])
    assert store.has(KEYS[0])
    assert store.has(KEYS[1])
    assert not store.has(KEYS[2])
    assert bytes(store.read(KEYS[1])) == CONTENT[1]
    assert there(store) == [True, True, False]
    assert store.size == 24


def test_another_process_sees_them(opened):
    reader, writer = opened(), opened()
    writer.write(KEYS[:1], CONTENT[:1])
    assert not reader.has(KEYS[0])
    reader.refresh()
    assert bytes(reader.read(KEYS[0])) == CONTENT[0]
    writer.write(KEYS[1:], CONTENT[1:])
    reader.refresh()
    assert bytes(reader.read(KEYS[2])) == CONTENT[2]


def test_a_sample_that_was_written_is_never_another_one(opened):
    """What a run has read it reads again, whatever another has computed beside it."""
    first, second = opened(), opened()
    first.write(KEYS[:1], CONTENT[:1])
    second.write(KEYS[:2], [b"z" * 8, CONTENT[1]])
    for store in (first, second, opened()):
        store.refresh()
        assert bytes(store.read(KEYS[0])) == CONTENT[0]
        assert bytes(store.read(KEYS[1])) == CONTENT[1]
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
    assert not there(second)[0]
    second.write(KEYS[1:], CONTENT[1:])
    assert there(opened()) == [False, True, True]


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
        assert [bytes(other.read(key)) for key in KEYS if other.has(key)] == list(CONTENT)


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
    present = there(store)
    assert present in ([True, False, False], [False, True, True])
    assert [bytes(store.read(key)) for key in KEYS if store.has(key)] == [
        content for content, has in zip(CONTENT, present, strict=True) if has
    ]


def test_an_index_that_is_lost_takes_its_segments_with_it(opened, segments, tmp_path):
    first = opened()
    first.write(KEYS, CONTENT)
    first.close()
    first.__init__(tmp_path / "cache", {})
    (tmp_path / "cache" / INDEX).unlink()
    assert not there(opened())[0]
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


@pytest.mark.parametrize("left", [0, 7, 12, 31])
@pytest.mark.parametrize("own", [True, False], ids=["own file", "file of another"])
def test_a_segment_that_gets_shorter_is_damage_and_repaired(left, own, opened, segments):
    writer, reader = opened(), opened()
    writer.write(KEYS, CONTENT)
    reader.refresh()
    assert [bytes(reader.read(key)) for key in KEYS] == list(CONTENT)
    store = writer if own else reader
    os.truncate(segments()[0], left)
    for key, content, end in zip(KEYS, CONTENT, (8, 24, 32), strict=True):
        if end <= left:
            assert store.read(key) == content
            continue
        for _ in range(3):
            with pytest.raises(CacheDamage):
                store.read(key)
        assert not store.has(key)
    store.write(KEYS, CONTENT)
    for each in (store, opened()):
        assert [each.read(key) for key in KEYS if each._has(key)] == list(CONTENT)


def test_bytes_that_others_write_where_a_file_has_ended_are_not_read(opened, segments):
    opened().write(KEYS, CONTENT)
    store = opened()
    assert [store.read(key) for key in KEYS] == list(CONTENT)
    (path,) = segments()
    os.truncate(path, 4)
    with pytest.raises(CacheDamage):
        store.read(KEYS[2])
    path.write_bytes(b"z" * 32)
    for key in KEYS:
        with pytest.raises(CacheDamage):
            store.read(key)


def test_a_file_of_its_own_that_became_shorter_is_left_alone(opened, segments):
    """Others may still hold for verified what was in it."""
    store = opened()
    store.write(KEYS[:1], CONTENT[:1])
    (first,) = segments()
    os.truncate(first, 0)
    store.write(KEYS, CONTENT)
    assert first.stat().st_size == 0
    assert len(segments()) == 2
    again = opened()
    assert [again.read(key) for key in KEYS if again._has(key)] == list(CONTENT)


@pytest.mark.parametrize("sizes", [[-2, 8], [2**62, 2**62], [2**48, 8]])
def test_an_index_with_impossible_sizes_is_skipped(sizes, opened, tmp_path):
    opened().write(KEYS[:1], CONTENT[:1])
    record = segment("0" * 32, 0, KEYS[1:], CONTENT[1:])
    record.entries["size"] = sizes
    with (tmp_path / "cache" / INDEX).open("ab") as file:
        file.write(record.encode())
    assert there(opened()) == [True, False, False]


@pytest.mark.parametrize("segments_", [1, 40, 300])
def test_an_opened_store_has_no_object_for_each_sample(segments_, opened):
    writer, keys = opened(), [[bytes([a % 256, a // 256, b, 7]) * 4 for b in range(32)] for a in range(segments_)]
    for some in keys:
        writer.write(some, [key[:3] for key in some])
    store = opened()
    assert not store._places._later
    every = [key for some in keys for key in some]
    assert not store.absent(np.frombuffer(b"".join(every), "S16")).any()
    assert all(store.read(key) == key[:3] for key in every[:: 1 + segments_ // 10])


def test_keys_that_end_in_zeros_are_keys(opened):
    keys = [b"a" * 16, b"a" * 15 + b"\0", b"a" + bytes(15), bytes(16)]
    store = opened()
    store.write(keys, [b"1", b"22", b"333", b"4444"])
    for each in (store, opened()):
        assert [each.read(key) for key in keys] == [b"1", b"22", b"333", b"4444"]


@pytest.mark.parametrize("files", [1, 5, 200])
def test_a_cache_of_many_files_has_few_of_them_open(files, opened, tmp_path):
    for number in range(files):
        store = Store(tmp_path / "cache", {})
        store.write([bytes([number]) * 16], [bytes([number])])
        store.close()
    before = len(list(Path("/proc/self/fd").iterdir()))
    store = opened()
    for _ in range(2):
        assert all(store.read(bytes([number]) * 16) == bytes([number]) for number in range(files))
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 130


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
    assert bytes(opened().read(KEYS[0])) == CONTENT[0]


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
            assert len(store._places.of(key)) == 1
            assert bytes(store.read(key)) in (b"x" * (number + 1), b"y" * (number + 1))
