"""What a spec says of the teacher cache: whether it is used, how exactly values are kept, how much room they may take."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from kdspec.api.component import Strict
from kdspec.data.cache_folder import VARIABLE, cache_folder

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kKMGT]i?)?B")
_POWERS: Mapping[str, int] = MappingProxyType({"": 0, "K": 1, "M": 2, "G": 3, "T": 4})

# Operations a second that a teacher runs at, generously, so that a cache which is chosen does pay.
_SPEED: Mapping[str, float] = MappingProxyType({"cpu": 1e11, "cuda": 3e13})
_READING = 1.5e9
"""Bytes a second that come from a cache in memory to a batch."""
_ROW = 3e-5
"""Seconds that a row takes beside its bytes."""


def _text(value: Any) -> Any:
    return f"{value}B" if isinstance(value, int) and not isinstance(value, bool) else value


def _size(value: str) -> str:
    if not _SIZE.fullmatch(value):
        raise PydanticCustomError("bad_size", "`{size}` is not a size such as `20GB` or `500MiB`", {"size": value})
    return value


Size = Annotated[
    str, BeforeValidator(_text, json_schema_input_type=Annotated[int, Field(ge=0)] | str), AfterValidator(_size)
]
"""A number of bytes: `20GB`, `500MiB`, or a whole number."""


class TeacherCacheSettings(Strict):
    """Caches the outputs of frozen teachers on disk, so that each teacher runs once for all epochs and runs."""

    use: Literal["auto", "on", "off"] = "auto"
    """`auto`: if rows are seen more than once, reading is faster than running the teacher, and the values fit into the
    budget. `on`: always; an error if that is not possible. `off`: never."""
    dtype: Literal["exact", "float16", "int8"] = "exact"
    """Precision of the stored values. `exact`: as the teacher computes them. `float16`: half of the disk space. `int8`:
    hidden states and attention in a quarter of it, with a scale for each token; logits in float16."""
    top_k: Annotated[int, Field(gt=0)] | None = None
    """Keep this many of the largest logits of a row or token; the probability of all others is one more outcome, kept as a
    number for each temperature of the soft labels, which are a divergence such as `kl` at a constant temperature."""
    budget: Size = "20GB"
    """Maximum size of one cache on disk: a number of bytes, with `kB`, `MB`, `GB` or `GiB` behind it."""
    folder: Annotated[str, Field(min_length=1)] | None = None
    """Folder of the caches. Default: the folder that the environment variable `KDSPEC_CACHE` names, or
    `kdspec/teachers` in the user's cache folder."""

    @property
    def bytes(self) -> int:
        """The budget as a number."""
        return number(self.budget)


def number(size: str) -> int:
    """The bytes of a size: `2kB` are 2000, `2KiB` 2048."""
    found = _SIZE.fullmatch(size)
    assert found is not None, "the size has been checked"
    unit = (found[2] or "").upper()
    base = 1024 if unit.endswith("I") else 1000
    return round(float(found[1]) * float(base ** _POWERS[unit[:1]]))


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
        settings: what the spec says.
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
    known = facts.flops is not None and facts.row_bytes is not None
    if auto and known and not pays(facts.flops or 0, facts.row_bytes or 0, device):
        return CacheDecision(use=False, reason="running it takes no longer than reading")
    if facts.bytes is not None:
        if facts.bytes > settings.bytes:
            size = f"it would take {facts.bytes / 1e9:.3g} GB"
            return CacheDecision(use=False, reason=f"{size}, and the budget is {settings.budget}")
        return CacheDecision(use=True, reason="")
    if not auto:
        return CacheDecision(use=True, reason=f"if all rows fit into {settings.budget}")
    seen = "rows are seen more than once and " if facts.epochs is None else ""
    return CacheDecision(use=True, reason=f"if {seen}all of them fit into {settings.budget}")
