"""The processors of a machine: their name, and how many of them this process may use."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_INFO = Path("/proc/cpuinfo")
_OWN = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_NAMES = ("model name", "Hardware", "Processor")


def processor_name() -> str:
    """The name that the maker gave it; the architecture where the system does not say it."""
    with suppress(OSError):
        for line in _INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            field, _, value = line.partition(":")
            if field.strip() in _NAMES and value.strip():
                return " ".join(value.split())
    return platform.processor() or platform.machine()


def quota() -> float | None:
    """How many processors the container may use at a time, by `cpu.max` of its cgroup (version 2); None without a limit."""
    return min(_quotas(), default=None)


def runs_on() -> int:
    """The number of processors that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def _quotas() -> Iterator[float]:
    with suppress(OSError):
        for line in _OWN.read_text().splitlines():
            if not line.startswith("0::"):
                continue
            own = _GROUPS / line.removeprefix("0::").lstrip("/")
            for group in (own, *own.parents):
                if group.is_relative_to(_GROUPS):
                    yield from _of(group)


def _of(group: Path) -> Iterator[float]:
    with suppress(OSError, ValueError):
        allowed, period = (group / "cpu.max").read_text().split()
        yield int(allowed) / int(period)  # `max`, a ValueError, for no limit
