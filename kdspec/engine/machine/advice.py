"""What to change on a machine, by its condition."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from kdspec.engine.machine.condition import Condition

_LITTLE_MEMORY, _LITTLE_DISK = 2 * 2**30, 5 * 2**30
_FASTER, _SLOWER = 1.3, 0.9
"""Times as fast as fp32 from which bf16 is worth using, and below which it is a loss."""


@dataclass(frozen=True)
class Advice:
    """One finding, and what to do."""

    level: Literal["error", "warning", "note"]
    text: str
    help: str


def advice(found: Condition) -> list[Advice]:
    """The findings, the worst first."""
    order = ("error", "warning", "note")
    given = [*_of_plugins(found), *_of_threads(found), *_of_devices(found), *_of_space(found), *_of_hub(found)]
    return sorted([*given, *_of_speed(found)], key=lambda each: order.index(each.level))


def _of_plugins(found: Condition) -> Iterator[Advice]:
    for origin, reason in found.plugin_problems.items():
        first = reason.partition("\n")[0]
        yield Advice("error", f"the plugin `{origin}` failed to load: {first}", "update it, or remove it with pip")


def _of_threads(found: Condition) -> Iterator[Advice]:
    usable = found.processors if found.quota is None else min(found.processors, found.quota)
    best = max(1, math.floor(usable))
    if found.threads > math.ceil(usable):
        text = f"torch uses {found.threads} threads, and this process may use {usable:g} processors: they wait for each other"
        yield Advice("warning", text, f"set OMP_NUM_THREADS={best}")
    elif found.threads_set and found.threads < best:
        text = f"torch uses {found.threads} of {best} processors, because of OMP_NUM_THREADS={found.threads_set}"
        yield Advice("note", text, f"unset OMP_NUM_THREADS, or set it to {best}, unless other programs need the rest")


def _of_devices(found: Condition) -> Iterator[Advice]:
    if found.unused_gpu:
        text = f"the system has an NVIDIA device, and torch {found.versions['torch']} cannot use it"
        yield Advice("warning", text, "install a build of torch for its CUDA driver; `nvidia-smi` shows the version")


def _of_space(found: Condition) -> Iterator[Advice]:
    if found.free_memory is not None and found.free_memory < _LITTLE_MEMORY:
        text = f"only {found.free_memory / 2**30:.1f} GiB of memory are free"
        yield Advice(
            "warning", text, "end other programs, or use a smaller batch_size; the plan shows what a stage needs"
        )
    for place, free in found.free_disk.items():
        if free < _LITTLE_DISK:
            text = f"only {free / 2**30:.1f} GiB of disk are free in {place}"
            yield Advice("warning", text, "`kdspec clean` removes checkpoints of finished runs and unused caches")
    if not found.cache_writable:
        text = f"the cache folder `{found.cache_folder}` cannot be written: teachers run again in each epoch"
        yield Advice("warning", text, "set KDSPEC_CACHE to a folder that can")


def _of_hub(found: Condition) -> Iterator[Advice]:
    if found.hub.startswith("not reachable"):
        text = f"the hub is {found.hub}"
        help_ = (
            "set HF_HUB_OFFLINE=1 to wait for nothing, and name models by folders; or set HTTPS_PROXY or HF_ENDPOINT"
        )
        yield Advice("warning", text, help_)


def _of_speed(found: Condition) -> Iterator[Advice]:
    speed = found.speed
    if found.devices or speed is None:
        return
    if speed.gain >= _FASTER:
        text = f"this processor multiplies bf16 {speed.gain:.2g} times as fast as fp32"
        yield Advice("note", text, "`teacher_precision: bf16` makes teachers faster; `kdspec plan` says by how much")
    elif speed.gain < _SLOWER:
        text = f"this processor multiplies bf16 {speed.gain:.2g} times as fast as fp32"
        yield Advice("note", text, "leave `precision` and `teacher_precision` at fp32")
