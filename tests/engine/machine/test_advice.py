"""What is advised for the condition of a machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kdspec.engine.machine import condition
from kdspec.engine.machine.advice import advice
from kdspec.engine.machine.condition import Condition, examine
from kdspec.engine.machine.processor_speed import ProcessorSpeed

GIB = 2**30
FINE = Condition(
    versions={"torch": "2.13.0"}, processor="X1", processors=8, quota=None, threads=8, threads_set="",
    speed=ProcessorSpeed("X1", "2.13.0", 8, fp32=1e11, bf16=1e11), speed_kept=True, devices=(), unused_gpu=False,
    free_memory=16 * GIB, free_disk={".": 50 * GIB}, cache_folder="cache", cache_writable=True, cache_bytes=0,
    hub="reachable",
)  # fmt: skip


def speed(gain):
    return ProcessorSpeed("X1", "2.13.0", 8, fp32=1e11, bf16=gain * 1e11)


def test_nothing_is_advised_where_all_is_fine():
    assert advice(FINE) == []
    assert advice(replace(FINE, hub="offline: HF_HUB_OFFLINE is set", quota=8.0)) == []


@pytest.mark.parametrize(
    ("changes", "level", "text", "help_"),
    [
        ({"quota": 2.0}, "warning", "torch uses 8 threads, and this process may use 2 processors", "OMP_NUM_THREADS=2"),
        ({"quota": 0.5, "threads": 2}, "warning", "may use 0.5 processors", "OMP_NUM_THREADS=1"),
        ({"processors": 4}, "warning", "may use 4 processors", "OMP_NUM_THREADS=4"),
        ({"threads": 1, "threads_set": "1"}, "note", "torch uses 1 of 8 processors", "set it to 8"),
        ({"speed": speed(5.0)}, "note", "bf16 5 times as fast", "`teacher_precision: bf16`"),
        ({"speed": speed(0.1)}, "note", "bf16 0.1 times as fast", "at fp32"),
        ({"unused_gpu": True}, "warning", "torch 2.13.0 cannot use it", "CUDA"),
        ({"free_memory": GIB}, "warning", "only 1.0 GiB of memory", "batch_size"),
        ({"free_disk": {"the cache": GIB}}, "warning", "only 1.0 GiB of disk are free in the cache", "kdspec clean"),
        ({"cache_writable": False}, "warning", "`cache` cannot be written", "KDSPEC_CACHE"),
        ({"hub": "not reachable: x"}, "warning", "the hub is not reachable: x", "HF_HUB_OFFLINE=1"),
        ({"plugin_problems": {"odd": "ImportError: y\nmore"}}, "error", "`odd` failed to load: ImportError: y", "pip"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(changes, level, text, help_):
    (given,) = advice(replace(FINE, **changes))
    assert given.level == level
    assert text in given.text
    assert help_ in given.help


def test_the_worst_is_first():
    given = advice(replace(FINE, speed=speed(5.0), free_memory=GIB, plugin_problems={"odd": "x"}))
    assert [each.level for each in given] == ["error", "warning", "note"]


def test_a_gpu_makes_the_speed_of_the_processor_irrelevant():
    assert advice(replace(FINE, speed=speed(5.0), devices=("cuda:0 X, 80 GiB",))) == []


def test_a_machine_is_examined_and_its_speed_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(condition.processor_speed, "measure", lambda: speed(2.0))
    found = examine(plugins={"kdspec": "1"}, plugin_problems={})
    assert found.speed_kept
    assert len([*(tmp_path / "cache" / "speed").iterdir()]) == 1
    assert {"python", "kdspec", "torch"} <= found.versions.keys()
    assert found.cache_writable
    assert found.hub == "offline: HF_HUB_OFFLINE is set"
    assert found.cache_bytes == sum(file.stat().st_size for file in (tmp_path / "cache" / "speed").iterdir())


def test_a_cache_that_is_a_file_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(condition.processor_speed, "measure", lambda: speed(2.0))
    found = examine(plugins={}, plugin_problems={})
    assert (found.cache_writable, found.speed_kept) == (False, False)
