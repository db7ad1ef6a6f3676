"""Tensors of a row as bytes and back: as they are, in half precision, in eight bits with scales, or the largest logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdspec.engine.teacher_cache.slots import TOKENS, Slot, Uncacheable

Kind = Literal["raw", "half", "int8", "top_k"]
ALIGNMENT = 8
"""Every slot begins at a multiple of so many bytes."""

_FLOATS = ("float64", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Codec:
    """How a cache keeps its values; see `TeacherCache` of the spec."""

    dtype: Literal["exact", "float16", "int8"] = "exact"
    top_k: int | None = None

    def kind(self, slot: Slot) -> Kind:
        """How a slot is kept. Whole numbers, and what would become no smaller, stay as they are."""
        if slot.dtype not in _FLOATS or not slot.shape:
            return "raw"
        last, logits = slot.shape[-1], slot.feature == "logits"
        if logits and self.top_k is not None and last != TOKENS and 2 * self.top_k < last:
            return "top_k"
        if self.dtype == "exact" or ((self.dtype == "float16" or logits) and width(slot) <= 2):
            return "raw"
        return "half" if self.dtype == "float16" or logits else "int8"

    def sizes(self, slot: Slot, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """The bytes that a slot takes in rows with so many tokens."""
        numbers = slot.fixed * tokens**slot.axes
        match self.kind(slot):
            case "raw":
                size = numbers * width(slot)
            case "half":
                size = numbers * 2
            case "int8":
                size = numbers + 4 * _vectors(slot, numbers, tokens)
            case "top_k":
                assert self.top_k is not None
                size = numbers // slot.shape[-1] * (8 * self.top_k + 4)
        return -(-size // ALIGNMENT) * ALIGNMENT

    def encode(self, slot: Slot, value: Tensor) -> bytes:
        """The bytes of a slot, without what aligns the next one.

        Raises:
            Uncacheable: a number is too large for float16, or not finite and kept in eight bits.
        """
        match self.kind(slot):
            case "raw":
                return array(value).tobytes()
            case "half":
                return array(_halved(slot, value)).tobytes()
            case "int8":
                return _eight_bits(slot, value.float())
            case "top_k":
                assert self.top_k is not None
                return _largest(value.float(), self.top_k)

    def decode(self, slot: Slot, buffer: memoryview, offset: int, tokens: int) -> NDArray[Any]:
        """The value of a slot; bfloat16, which numpy does not know, as its bits."""
        shape = slot.of(tokens)
        numbers = slot.fixed * tokens**slot.axes

        def read(dtype: Any, count: int, at: int = 0) -> NDArray[Any]:
            return np.frombuffer(buffer, dtype, count, offset + at)

        match self.kind(slot):
            case "raw":
                return read(numpy_type(slot.dtype), numbers).reshape(shape)
            case "half":
                return read(np.float16, numbers).reshape(shape)
            case "int8":
                vectors = _vectors(slot, np.int64(numbers), np.int64(tokens))
                scales = read(np.float32, int(vectors))
                found = read(np.int8, numbers, 4 * int(vectors)).reshape(shape)
                numbers_: NDArray[Any] = found.astype(np.float32) * scales.reshape(*shape[:-1], 1)
                return numbers_
            case "top_k":
                assert self.top_k is not None
                count = numbers // shape[-1]
                kept = count * self.top_k
                largest, rest = read(np.float32, kept), read(np.float32, count, 8 * kept)
                spread = np.repeat(rest - np.log(shape[-1] - self.top_k), shape[-1]).reshape(count, shape[-1])
                at = read(np.int32, kept, 4 * kept).reshape(count, self.top_k)
                np.put_along_axis(spread, at.astype(np.int64), largest.reshape(count, self.top_k), 1)
                return spread.astype(np.float32).reshape(shape)

    def decoded_type(self, slot: Slot) -> torch.dtype:
        """The type of the tensor that is read: that of the teacher, whatever was kept."""
        dtype = getattr(torch, slot.dtype)
        assert isinstance(dtype, torch.dtype)
        # Bits are only copied: what has to be computed is of float32, in which the losses work.
        return dtype if self.kind(slot) == "raw" else torch.promote_types(dtype, torch.float32)


def width(slot: Slot) -> int:
    """Bytes of one of the teacher's numbers."""
    dtype: torch.dtype = getattr(torch, slot.dtype)
    return dtype.itemsize


def numpy_type(dtype: str) -> np.dtype[Any]:
    """The type of numpy for the bits of a tensor."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)


def array(tensor: Tensor) -> NDArray[Any]:
    """A tensor of the CPU as numpy's, bfloat16 as its bits; it shares the memory where it is contiguous."""
    plain = tensor.detach().contiguous()
    return (plain.view(torch.uint16) if plain.dtype is torch.bfloat16 else plain).numpy()


def _vectors(slot: Slot, numbers: NDArray[np.int64] | np.int64, tokens: NDArray[np.int64] | np.int64) -> Any:
    """How many vectors along the last axis there are."""
    last = tokens if slot.shape[-1] == TOKENS else slot.shape[-1]
    return numbers // np.maximum(last, 1)


def _halved(slot: Slot, value: Tensor) -> Tensor:
    half = value.half()
    if not torch.equal(half.isinf(), value.isinf()):
        raise Uncacheable(f"`{slot.feature}` has numbers that are too large for float16")
    return half


def _eight_bits(slot: Slot, value: Tensor) -> bytes:
    """A scale for each vector, then its numbers in units of it."""
    if not value.numel():
        return b""
    scales = value.abs().amax(-1, keepdim=True) / 127
    if not scales.isfinite().all():
        raise Uncacheable(f"`{slot.feature}` has numbers that are not finite, which eight bits do not hold")
    units = torch.where(scales > 0, value / scales, 0).round().clamp(-127, 127).to(torch.int8)
    return array(scales).tobytes() + array(units).tobytes()


def _largest(value: Tensor, count: int) -> bytes:
    """The largest numbers of each vector, where they are, and the logarithm of what the others sum to, exponentiated."""
    if not value.numel():
        return b""
    rows = value.reshape(-1, value.shape[-1])
    largest, at = rows.topk(count)
    rest = rows.scatter(1, at, -torch.inf).logsumexp(-1)
    return array(largest).tobytes() + array(at.to(torch.int32)).tobytes() + array(rest).tobytes()
