"""Chooses the codec of each feature from the settings of the spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kdspec.api.plan.needs import LogitUse
from kdspec.api.spec.cache_settings import TeacherCacheSettings
from kdspec.engine.teacher_cache.codecs import DENSE, FLOATS, Codec, dtype_of
from kdspec.engine.teacher_cache.slots import TOKENS, Slot
from kdspec.engine.teacher_cache.top_k import TopK


@dataclass(frozen=True)
class CodecChoice:
    """How a cache stores its values; see `TeacherCacheSettings` of the spec."""

    dtype: Literal["exact", "float16", "int8"] = "exact"
    top_k: int | None = None
    temperatures: tuple[float, ...] = ()
    """Temperatures at which the logits are read; `top_k` stores the remaining probability for each."""

    @classmethod
    def of(cls, settings: TeacherCacheSettings, use: LogitUse | None) -> CodecChoice:
        """The choice for a teacher. The use of its logits matters only with `top_k`."""
        read = settings.top_k is not None and use is not None
        given: tuple[float, ...] = tuple(sorted(set(use.temperatures))) if read and use is not None else ()
        return cls(settings.dtype, settings.top_k, given)

    def codec(self, slot: Slot) -> Codec:
        """The codec of a slot. Integers, and values that would not become smaller, are stored unchanged."""
        if slot.dtype not in FLOATS or not slot.shape:
            return DENSE["dense"]
        last, logits = slot.shape[-1], slot.feature == "logits"
        if logits and self.top_k is not None and last != TOKENS and 2 * self.top_k < last:
            return TopK(self.top_k, self.temperatures)
        if self.dtype == "exact" or ((self.dtype == "float16" or logits) and dtype_of(slot).itemsize <= 2):
            return DENSE["dense"]
        return DENSE["half" if self.dtype == "float16" or logits else "int8"]

    def size(self, slots: Sequence[Slot], tokens: Sequence[int]) -> int:
        """The bytes of a sample with this number of tokens for each slot."""
        return sum(self.codec(slot).size(slot, count) for slot, count in zip(slots, tokens, strict=True))
