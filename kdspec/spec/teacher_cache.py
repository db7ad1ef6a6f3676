"""The folder of teacher caches, and the decision whether a teacher is cached."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from kdspec.api.spec.cache_settings import TeacherCacheSettings
from kdspec.data.cache_folder import VARIABLE, cache_folder

# Operations per second of a teacher: a high estimate, so that `auto` chooses a cache only if it saves time.
_SPEED: Mapping[str, float] = MappingProxyType({"cpu": 1e11, "cuda": 3e13})
_READING = 1.5e9
"""Bytes per second from a cache in memory to a batch."""
_ROW = 3e-5
"""Seconds per row, in addition to its bytes."""


def root(settings: TeacherCacheSettings | None, base: Path) -> Path:
    """The folder of the caches; a folder in the spec is relative to `base`."""
    if settings is not None and settings.folder is not None:
        return base / Path(settings.folder).expanduser()
    return cache_folder()


def shown(settings: TeacherCacheSettings) -> str:
    """The folder of the caches for display, the same text for every user."""
    if settings.folder is not None:
        return settings.folder
    return f"${VARIABLE}" if os.environ.get(VARIABLE) else "~/.cache/kdspec/teachers"


def pays(flops: float, size: float, device: str) -> bool:
    """Whether reading a row of `size` bytes takes less than half the time of computing it.

    `flops` are the teacher's operations for a row, `device` is the type of its device.
    """
    running = flops / _SPEED.get(device, _SPEED["cuda"])
    return running > 2 * (_ROW + size / _READING)


@dataclass(frozen=True)
class CacheFacts:
    """The facts about a teacher and its rows on which the decision depends; None if not known yet."""

    obstacle: str | None = None
    """The reason why it cannot be cached with any settings."""
    epochs: float | None = None
    """How often each row is read."""
    flops: float | None = None
    """The teacher's operations per row."""
    row_bytes: float | None = None
    """Bytes per row in the cache."""
    bytes: float | None = None
    """Bytes of the complete cache."""


@dataclass(frozen=True)
class CacheDecision:
    """Whether a teacher is cached, and why."""

    use: bool
    reason: str
    """Empty if it is cached without a condition."""


def decide(settings: TeacherCacheSettings, facts: CacheFacts, device: str) -> CacheDecision:
    """Whether to cache a teacher, according to the facts so far.

    Args:
        settings: those of the stage.
        facts: what is known so far; facts that become known later never turn a "no" into a "yes".
        device: the type of the teacher's device.
    """
    auto = settings.use == "auto"
    if settings.use == "off":
        return CacheDecision(use=False, reason="off")
    if facts.obstacle is not None:
        return CacheDecision(use=False, reason=facts.obstacle)
    if auto and facts.epochs is not None and facts.epochs <= 1:
        return CacheDecision(use=False, reason="each row is seen once")
    flops, size = facts.flops, facts.row_bytes
    if auto and flops is not None and size is not None and not pays(flops, size, device):
        return CacheDecision(use=False, reason="recomputing the teacher is as fast as reading the cache")
    if facts.bytes is not None:
        if facts.bytes > settings.bytes:
            needed = f"it would take {facts.bytes / 1e9:.3g} GB"
            return CacheDecision(use=False, reason=f"{needed}, and the budget is {settings.budget}")
        return CacheDecision(use=True, reason="")
    if not auto:
        return CacheDecision(use=True, reason=f"if all rows fit into {settings.budget}")
    seen = "rows are seen more than once and " if facts.epochs is None else ""
    return CacheDecision(use=True, reason=f"if {seen}all of them fit into {settings.budget}")
