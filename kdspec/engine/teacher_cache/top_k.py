"""The codec of the largest logits of each position, with the total probability of the others at each temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdspec.api.working.logits import TopKLogits
from kdspec.engine.teacher_cache.codecs import Codec, Part, array
from kdspec.engine.teacher_cache.slots import Slot


@dataclass(frozen=True)
class TopK(Codec):
    """Stores the `count` largest logits of a position, their classes, and the rest at each temperature.

    The rest at temperature T is log Σ exp(z / T) over the other classes. It is stored for each temperature, because it
    does not follow from the rest at another one.
    """

    count: int
    temperatures: tuple[float, ...]

    name = "top_k"

    def size(self, slot: Slot, tokens: int) -> int:
        """For each position 8 bytes per logit and 4 per temperature."""
        return slot.vectors(tokens) * (8 * self.count + 4 * len(self.temperatures))

    def encode(self, slot: Slot, value: Tensor) -> bytes:
        """Classes, logits, and the rest at each temperature."""
        del slot
        if not value.numel():
            return b""
        # In float32: the sum of many small exponentials loses its digits in half types.
        rows = value.float().reshape(-1, value.shape[-1])
        largest, at = rows.topk(self.count)
        others = rows.scatter(1, at, -torch.inf)
        rests = [(others / temperature).logsumexp(-1) for temperature in self.temperatures]
        return b"".join(array(part).tobytes() for part in (at.to(torch.int32), largest, *rests))

    def decode(self, slot: Slot, buffer: bytes, offset: int, tokens: int) -> tuple[NDArray[Any], ...]:
        """An array for each part."""
        leading, found = slot.of(tokens)[:-1], []
        for part in self.parts(slot):
            shape = (*leading, *part.shape[len(leading) :])
            dtype: type[np.generic] = np.float32 if part.dtype.is_floating_point else np.int32
            found.append(np.frombuffer(buffer, dtype, math.prod(shape), offset).reshape(shape))
            offset += found[-1].nbytes
        return tuple(found)

    def parts(self, slot: Slot) -> tuple[Part, ...]:
        """The classes, their logits, and the rest at each temperature."""
        leading = slot.shape[:-1]
        several = (*leading, self.count)
        rests = (Part(leading, torch.float32) for _ in self.temperatures)
        return (Part(several, torch.int64), Part(several, torch.float32), *rests)

    def put_together(self, slot: Slot, tensors: Sequence[Tensor]) -> TopKLogits:
        """The list and the rests; the dense logits are never built."""
        ids, values, *rests = tensors
        return TopKLogits(ids, values, dict(zip(self.temperatures, rests, strict=True)), slot.shape[-1])
