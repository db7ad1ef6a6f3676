"""Where teacher caches lie, and the decision whether a teacher is cached."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from kdspec.api.cache_settings import TeacherCacheSettings
from kdspec.data.cache_folder import VARIABLE, cache_folder

# Operations a second that a teacher runs at, generously, so that a cache which is chosen does pay.
_SPEED: Mapping[str, float] = MappingProxyType({"cpu": 1e11, "cuda": 3e13})
_READING = 1.5e9
"""Bytes a second that come from a cache in memory to a batch."""
_ROW = 3e-5
"""Seconds that a row takes beside its bytes."""


def root(settings: TeacherCacheSettings | None, base: Path) -> Path:
    """The folder of the caches; one that the spec names is relative to `base`."""
    if settings is not None and settings.folder is not None:
        return base / Path(settings.folder).expanduser()
    return cache_folder()


def shown(settings: TeacherCacheSettings) -> str:
    """The folder of the caches in words that are the same for every user."""
    if settings.folder is not None:
        return settings.folder
    return f"${VARIABLE}" if os.environ.get(VARIABLE) else "~/.cache/kdspec/teachers"


def pays(flops: float, size: float, device: str) -> bool:
    """Whether a row of `size` bytes is read in less than half of the time that its teacher takes.

    `flops` are those of the teacher for the row, `device` is the type of what it runs on.
    """
    running = flops / _SPEED.get(device, _SPEED["cuda"])
    return running > 2 * (_ROW + size / _READING)


@dataclass(frozen=True)
class CacheFacts:
    """What is known of a teacher and its rows when it is decided whether to cache it; None for what is not."""

    obstacle: str | None = None
    """Why it cannot be cached, whatever the settings."""
    epochs: float | None = None
    """How often rows are seen."""
    flops: float | None = None
    """Operations of the teacher for a row."""
    row_bytes: float | None = None
    """What a row takes in the cache."""
    bytes: float | None = None
    """What the cache takes with all rows."""


@dataclass(frozen=True)
class CacheDecision:
    """Whether a teacher is cached, and why."""

    use: bool
    reason: str
    """Empty where it is used and nothing is left to be known."""


def decide(settings: TeacherCacheSettings, facts: CacheFacts, device: str) -> CacheDecision:
    """Whether to cache a teacher, as far as the facts tell.

    Args:
        settings: those of the stage.
        facts: what is known so far; a decision against the cache is not changed by what becomes known later.
        device: the type of what the teacher runs on.
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
        return CacheDecision(use=False, reason="running it takes no longer than reading")
    if facts.bytes is not None:
        if facts.bytes > settings.bytes:
            needed = f"it would take {facts.bytes / 1e9:.3g} GB"
            return CacheDecision(use=False, reason=f"{needed}, and the budget is {settings.budget}")
        return CacheDecision(use=True, reason="")
    if not auto:
        return CacheDecision(use=True, reason=f"if all rows fit into {settings.budget}")
    seen = "rows are seen more than once and " if facts.epochs is None else ""
    return CacheDecision(use=True, reason=f"if {seen}all of them fit into {settings.budget}")
