"""How much memory a process can still take: of the machine, of its container, and of its own limit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

_MACHINE = Path("/proc/meminfo")
_OWN = Path("/proc/self")
_GROUPS = Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """The bytes that this process can still take; None where the system does not say it.

    Memory that only caches files is free, for the system takes it back.
    """
    return min(_limits(), default=None)


def _limits() -> Iterator[int]:
    with suppress(OSError, ValueError, LookupError):
        lines = dict(line.split(":", 1) for line in _MACHINE.read_text(encoding="ascii").splitlines())
        yield int(lines["MemAvailable"].split()[0]) * 1024
    with suppress(OSError, ValueError, LookupError):
        for line in (_OWN / "cgroup").read_text().splitlines():
            own = _GROUPS / line.removeprefix("0::").lstrip("/")
            inside = (group for group in (own, *own.parents) if group.is_relative_to(_GROUPS))
            yield from chain.from_iterable(map(_of_group, inside if line.startswith("0::") else ()))
    with suppress(ImportError, OSError, ValueError, LookupError):
        import resource  # not on every system

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            pages = int((_OWN / "statm").read_text().split()[0])
            yield max(0, soft - pages * os.sysconf("SC_PAGE_SIZE"))


def _of_group(group: Path) -> Iterator[int]:
    """What is left of the limit of a container, if it has one."""
    with suppress(OSError, ValueError):
        limit = int((group / "memory.max").read_text())  # `max`, a ValueError, for none
        used = int((group / "memory.current").read_text())
        kinds = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        files = int(kinds.get("inactive_file", 0)) + int(kinds.get("active_file", 0))
        yield max(0, limit - used + files)
