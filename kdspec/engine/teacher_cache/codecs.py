"""How a cache keeps values: a class for each kind, with the bytes that it takes, and the way to bytes and back."""

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


@dataclass(frozen=True)
class Part:
    """A tensor of which a decoded value is made."""

    shape: tuple[int, ...]
    """Of one sample, `TOKENS` for an axis of tokens."""
    dtype: torch.dtype

    def of(self, tokens: int) -> tuple[int, ...]:
        """The shape of a sample with so many tokens."""
        return tuple(tokens if size == TOKENS else size for size in self.shape)


class Codec(ABC):
    """Keeps the values of a slot."""

    name: ClassVar[str]

    @abstractmethod
    def size(self, slot: Slot, tokens: int) -> int:
        """The bytes that a sample with so many tokens takes."""

    @abstractmethod
    def encode(self, slot: Slot, value: Tensor) -> bytes:
        """The bytes of a sample.

        Raises:
            Uncacheable: the codec does not hold such numbers.
        """

    @abstractmethod
    def decode(self, slot: Slot, buffer: memoryview, offset: int, tokens: int) -> tuple[NDArray[Any], ...]:
        """The value of a sample, an array for each of its parts; bfloat16, which numpy does not know, as its bits."""

    def parts(self, slot: Slot) -> tuple[Part, ...]:
        """What a decoded value is made of; most have one tensor, as wide as float32 at least, in which losses work."""
        return (Part(slot.shape, torch.promote_types(dtype_of(slot), torch.float32)),)

    def put_together(self, slot: Slot, tensors: Sequence[Tensor]) -> Any:
        """The feature of a batch from its parts."""
        del slot
        (tensor,) = tensors
        return tensor


class Dense(Codec):
    """Numbers as the teacher computes them."""

    name = "dense"

    def size(self, slot: Slot, tokens: int) -> int:
        """As many as in memory."""
        return slot.numbers(tokens) * dtype_of(slot).itemsize

    def encode(self, slot: Slot, value: Tensor) -> bytes:
        """Their bits."""
        del slot
        return array(value).tobytes()

    def decode(self, slot: Slot, buffer: memoryview, offset: int, tokens: int) -> tuple[NDArray[Any], ...]:
        """Their bits, which are not copied."""
        found = np.frombuffer(buffer, numpy_type(slot.dtype), slot.numbers(tokens), offset)
        return (found.reshape(slot.of(tokens)),)

    def parts(self, slot: Slot) -> tuple[Part, ...]:
        """One tensor of the teacher's type: bits are only copied."""
        return (Part(slot.shape, dtype_of(slot)),)


class Half(Codec):
    """Numbers in float16."""

    name = "half"

    def size(self, slot: Slot, tokens: int) -> int:
        """Two a number."""
        return slot.numbers(tokens) * 2

    def encode(self, slot: Slot, value: Tensor) -> bytes:
        """Rounded; a number that is too large raises `Uncacheable`."""
        half = value.half()
        if not torch.equal(half.isinf(), value.isinf()):
            raise Uncacheable(f"`{slot.feature}` has numbers that are too large for float16")
        return array(half).tobytes()

    def decode(self, slot: Slot, buffer: memoryview, offset: int, tokens: int) -> tuple[NDArray[Any], ...]:
        """In float16, which is widened where it is copied."""
        return (np.frombuffer(buffer, np.float16, slot.numbers(tokens), offset).reshape(slot.of(tokens)),)


class EightBits(Codec):
    """Numbers in eight bits, with a scale for each vector along the last axis."""

    name = "int8"

    def size(self, slot: Slot, tokens: int) -> int:
        """One a number, and four a vector."""
        return slot.numbers(tokens) + 4 * slot.vectors(tokens)

    def encode(self, slot: Slot, value: Tensor) -> bytes:
        """Scales, then units; a number that is not finite raises `Uncacheable`."""
        if not value.numel():
            return b""
        numbers = value.float()
        scales = numbers.abs().amax(-1, keepdim=True) / 127
        if not scales.isfinite().all():
            raise Uncacheable(f"`{slot.feature}` has numbers that are not finite, which eight bits do not hold")
        units = torch.where(scales > 0, numbers / scales, 0).round().clamp(-127, 127).to(torch.int8)
        return array(scales).tobytes() + array(units).tobytes()

    def decode(self, slot: Slot, buffer: memoryview, offset: int, tokens: int) -> tuple[NDArray[Any], ...]:
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
    """The type of numpy for the bits of a tensor."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)


def array(tensor: Tensor) -> NDArray[Any]:
    """A tensor of the CPU as numpy's, bfloat16 as its bits; it shares the memory where it is contiguous."""
    plain = tensor.detach().contiguous()
    return (plain.view(torch.uint16) if plain.dtype is torch.bfloat16 else plain).numpy()
