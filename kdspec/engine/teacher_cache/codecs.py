"""Codecs of a teacher cache: the size of values, and their conversion to bytes and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdspec.engine.teacher_cache.slots import TOKENS, Slot, Uncacheable

FLOATS = ("float64", "float32", "bfloat16", "float16")


_EXACT = "`dtype: exact` stores them"


@dataclass(frozen=True)
class Part:
    """One of the tensors of a decoded value."""

    shape: tuple[int, ...]
    """The shape for one sample, with `TOKENS` for an axis of tokens."""
    dtype: torch.dtype

    def of(self, tokens: int) -> tuple[int, ...]:
        """The shape of a sample with this number of tokens."""
        return tuple(tokens if size == TOKENS else size for size in self.shape)


class Codec(ABC):
    """Encodes and decodes the values of a slot."""

    name: ClassVar[str]

    @abstractmethod
    def size(self, slot: Slot, tokens: int) -> int:
        """The bytes of a sample with this number of tokens."""

    @abstractmethod
    def encode(self, slot: Slot, value: Tensor) -> bytes:
        """The bytes of a sample.

        Raises:
            Uncacheable: the codec cannot represent these numbers.
        """

    @abstractmethod
    def decode(self, slot: Slot, buffer: bytes, offset: int, tokens: int) -> tuple[NDArray[Any], ...]:
        """The value of a sample, an array for each of its parts; bfloat16, which numpy lacks, as its bits."""

    def parts(self, slot: Slot) -> tuple[Part, ...]:
        """The tensors of a decoded value; by default one, in float32 or wider, the precision of losses."""
        return (Part(slot.shape, torch.promote_types(dtype_of(slot), torch.float32)),)

    def put_together(self, slot: Slot, tensors: Sequence[Tensor]) -> Any:
        """The feature of a batch from its parts."""
        del slot
        (tensor,) = tensors
        return tensor


class Dense(Codec):
    """Numbers in the teacher's own type."""

    name = "dense"

    def size(self, slot: Slot, tokens: int) -> int:
        """As in memory."""
        return slot.numbers(tokens) * dtype_of(slot).itemsize

    def encode(self, slot: Slot, value: Tensor) -> bytes:
        """Their bits."""
        del slot
        return array(value).tobytes()

    def decode(self, slot: Slot, buffer: bytes, offset: int, tokens: int) -> tuple[NDArray[Any], ...]:
        """Their bits, not copied."""
        found = np.frombuffer(buffer, numpy_type(slot.dtype), slot.numbers(tokens), offset)
        return (found.reshape(slot.of(tokens)),)

    def parts(self, slot: Slot) -> tuple[Part, ...]:
        """One tensor of the teacher's type."""
        return (Part(slot.shape, dtype_of(slot)),)


class Half(Codec):
    """Numbers in float16."""

    name = "half"

    def size(self, slot: Slot, tokens: int) -> int:
        """Two bytes per number."""
        return slot.numbers(tokens) * 2

    def encode(self, slot: Slot, value: Tensor) -> bytes:
        """Rounded; a number too large for float16 raises `Uncacheable`."""
        half = value.half()
        # Infinite logits, as of masked classes, stay infinite; only a finite number that overflows is an error.
        if not torch.equal(half.isinf(), value.isinf()):
            raise Uncacheable(f"`{slot.feature}` has numbers too large for float16", _EXACT)
        return array(half).tobytes()

    def decode(self, slot: Slot, buffer: bytes, offset: int, tokens: int) -> tuple[NDArray[Any], ...]:
        """In float16; it is widened when it is copied into the batch."""
        return (np.frombuffer(buffer, np.float16, slot.numbers(tokens), offset).reshape(slot.of(tokens)),)


class EightBits(Codec):
    """Numbers in eight bits, with a scale for each vector along the last axis."""

    name = "int8"

    def size(self, slot: Slot, tokens: int) -> int:
        """One byte per number, and four per vector."""
        return slot.numbers(tokens) + 4 * slot.vectors(tokens)

    def encode(self, slot: Slot, value: Tensor) -> bytes:
        """Scales, then units; a non-finite number raises `Uncacheable`."""
        if not value.numel():
            return b""
        numbers = value.float()
        scales = numbers.abs().amax(-1, keepdim=True) / 127
        if not scales.isfinite().all():
            raise Uncacheable(f"`{slot.feature}` has non-finite numbers, which int8 cannot represent", _EXACT)
        # A vector of zeros has the scale 0, and 0 / 0 is NaN.
        units = torch.where(scales > 0, numbers / scales, 0).round().clamp(-127, 127).to(torch.int8)
        return array(scales).tobytes() + array(units).tobytes()

    def decode(self, slot: Slot, buffer: bytes, offset: int, tokens: int) -> tuple[NDArray[Any], ...]:
        """In float32."""
        shape, vectors = slot.of(tokens), slot.vectors(tokens)
        scales = np.frombuffer(buffer, np.float32, vectors, offset)
        units = np.frombuffer(buffer, np.int8, slot.numbers(tokens), offset + 4 * vectors).reshape(shape)
        return (units.astype(np.float32) * scales.reshape(*shape[:-1], 1),)


DENSE: Mapping[str, Codec] = MappingProxyType({codec.name: codec for codec in (Dense(), Half(), EightBits())})
"""The codecs that have no settings, by name."""


def dtype_of(slot: Slot) -> torch.dtype:
    """The type of the teacher's numbers."""
    dtype = getattr(torch, slot.dtype)
    assert isinstance(dtype, torch.dtype)
    return dtype


def numpy_type(dtype: str) -> np.dtype[Any]:
    """The numpy type for the bits of a tensor."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)


def array(tensor: Tensor) -> NDArray[Any]:
    """A CPU tensor as an array, bfloat16 as its bits; a contiguous tensor shares its memory."""
    plain = tensor.detach().contiguous()
    return (plain.view(torch.uint16) if plain.dtype is torch.bfloat16 else plain).numpy()
