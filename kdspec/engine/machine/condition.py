"""The condition of a machine: what it has for kdspec, each part asked for once."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from kdspec.data.cache_folder import cache_folder
from kdspec.data.free_memory import free_memory
from kdspec.engine.machine import hub_access, processor_speed
from kdspec.engine.machine.processor_speed import ProcessorSpeed
from kdspec.engine.machine.processors import processor_name, quota, runs_on

_PACKAGES = ("kdspec", "torch", "transformers", "tokenizers", "datasets", "safetensors", "pydantic", "accelerate")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What was found."""

    versions: Mapping[str, str]
    """Of Python and of the packages that are installed."""
    processor: str
    processors: int
    """Processors that this process may run on."""
    quota: float | None
    """Processors that the container may use at a time; None without a limit."""
    threads: int
    """Threads of a matrix product of torch."""
    threads_set: str
    """`OMP_NUM_THREADS` of the environment; empty if it is not set."""
    speed: ProcessorSpeed | None
    """None where torch cannot multiply bf16."""
    speed_kept: bool
    """Whether the measurement could be written to the cache folder."""
    devices: tuple[str, ...]
    """Devices other than the processor."""
    unused_gpu: bool
    """Whether the system has an NVIDIA device that torch cannot use."""
    free_memory: int | None
    free_disk: Mapping[str, int]
    """Free bytes for runs, in the working folder, and for caches."""
    cache_folder: str
    cache_writable: bool
    cache_bytes: int
    hub: str
    """`reachable`, `offline: ...` as the environment asks for it, or `not reachable: ...`."""
    plugins: Mapping[str, str] = field(default_factory=dict)
    """Versions of the distributions that loaded."""
    plugin_problems: Mapping[str, str] = field(default_factory=dict)
    """Why others did not load, by their origin."""


def examine(*, plugins: Mapping[str, str], plugin_problems: Mapping[str, str]) -> Condition:
    """Look at this machine; takes a second or two, and keeps the measured speed in the cache folder.

    Args:
        plugins: versions of the plugins that loaded.
        plugin_problems: reasons of those that did not.
    """
    cache = cache_folder()
    writable = _is_writable(cache)
    speed, kept = None, False
    with suppress(RuntimeError):  # a type that the processor's kernels lack
        speed = processor_speed.measure()
    if speed is not None and writable:
        with suppress(OSError):
            processor_speed.keep(speed)
            kept = True
    return Condition(
        versions=dict(_versions()),
        processor=processor_name(),
        processors=runs_on(),
        quota=quota(),
        threads=torch.get_num_threads(),
        threads_set=os.environ.get("OMP_NUM_THREADS", ""),
        speed=speed,
        speed_kept=kept,
        devices=tuple(_devices()),
        unused_gpu=Path("/dev/nvidia0").exists() and not torch.cuda.is_available(),
        free_memory=free_memory(),
        free_disk={
            name: shutil.disk_usage(_there(place)).free for name, place in ((".", Path()), ("the cache", cache))
        },
        cache_folder=str(cache),
        cache_writable=writable,
        cache_bytes=sum(path.lstat().st_size for path in cache.rglob("*") if path.is_file() and not path.is_symlink()),
        hub=hub_access.state(),
        plugins=plugins,
        plugin_problems=plugin_problems,
    )


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)


def _devices() -> Iterator[str]:
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        found = torch.cuda.get_device_properties(number)
        yield f"cuda:{number} {found.name}, {found.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        yield "mps"


def _there(place: Path) -> Path:
    """The folder, or the nearest one around it that exists."""
    return next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.is_dir())


def _is_writable(folder: Path) -> bool:
    """Whether files can be made in it, or it can be made."""
    if folder.exists() and not folder.is_dir():
        return False
    return os.access(_there(folder), os.W_OK | os.X_OK)
