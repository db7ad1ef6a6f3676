"""Dropout from a generator of each lane: threads would use the global one in an undefined order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_BITS = 16
"""Random bits for each element: the dropout probability is rounded to this precision."""


class LaneDropout(TorchFunctionMode):
    """A mode in which dropout of this thread is sampled from a generator of its own.

    It is not torch's generator: 16 bits per element from a generator of 64-bit words take a quarter of the time. The mode
    intercepts only calls from Python; `Lane.try_out` detects other uses of random numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        self._generator = np.random.SFC64(0)
        self._own: Mapping[Any, Callable[..., Tensor]] = MappingProxyType(
            {
                functional.dropout: self._dropout,
                torch.dropout: self._plain_dropout,
                functional.scaled_dot_product_attention: self._attend,
            }
        )

    def seed(self, value: int) -> None:
        """Seed the generator."""
        self._generator = np.random.SFC64(value)

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, or its replacement."""
        del types
        return self._own.get(func, func)(*args, **(kwargs or {}))

    def _noise(self, like: Tensor, p: float) -> Tensor:
        """0 with the probability `p`, otherwise 1 / (1 - p), so that the mean is 1."""
        count, dropped = like.numel(), round(p * 2**_BITS)
        if dropped == 2**_BITS:
            return torch.zeros_like(like)
        # torch supports few operations on uint16, so the bits and the threshold are signed.
        bits = torch.from_numpy(self._generator.random_raw(-(-count * _BITS // 64)).view(np.int16))[:count]
        kept = bits >= dropped - 2 ** (_BITS - 1)
        noise: Tensor = kept.view(like.shape).to(like.dtype)
        # By the rounded probability, so that the mean is exactly 1.
        return noise.mul_(1 / (1 - dropped / 2**_BITS))

    def _dropout(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:  # noqa: A002, FBT001, FBT002 - torch's
        if not training or p == 0 or not input.numel():
            return input
        noise = self._noise(input, p)
        return input.mul_(noise) if inplace else input * noise

    def _plain_dropout(self, input: Tensor, p: float, train: bool) -> Tensor:  # noqa: A002, FBT001 - torch's
        return self._dropout(input, p, train)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, *, scale: float | None = None, enable_gqa: bool = False,  # noqa: FBT001, FBT002 - torch's
    ) -> Tensor:  # fmt: skip
        if dropout_p == 0:
            return functional.scaled_dot_product_attention(
                query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa
            )
        if enable_gqa:
            groups = query.shape[-3] // key.shape[-3]
            key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
        if is_causal:
            attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        # The products keep the widened type, as in torch's math kernel.
        with torch.autocast(query.device.type, enabled=False):
            return self._weighed(query, key, value, attn_mask, dropout_p, scale).to(query.dtype)

    def _weighed(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout_p: float, scale: float | None
    ) -> Tensor:
        """Attention as in torch's math kernel: half types are widened."""
        if query.dtype in (torch.bfloat16, torch.float16):
            query, key, value = query.float(), key.float(), value.float()
        # The root of the scale on each side, so that products of large values do not overflow.
        half = (query.shape[-1] ** -0.5 if scale is None else scale) ** 0.5
        scores = (query * half) @ (key * half).transpose(-2, -1)
        softmax: Callable[[Tensor, int], Tensor] = torch.softmax
        if mask is not None and not (mask.dtype is torch.bool and mask.any(-1).all()):
            # A fully masked query has NaN weights with a plain softmax, and zeros with this one, which is half as fast.
            softmax = torch._safe_softmax  # noqa: SLF001 - it has no public name
        if mask is not None and mask.dtype is torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
        if mask is not None:
            scores = scores.add_(mask)
        return self._dropout(softmax(scores, -1), dropout_p) @ value
