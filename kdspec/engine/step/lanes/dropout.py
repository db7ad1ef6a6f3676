"""Dropout from a generator of one's own, where threads would draw from the global one in an order that nobody knows."""

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
"""Random bits for each number: a probability is rounded to so many of them."""


class LaneDropout(TorchFunctionMode):
    """While it is active, dropout of this thread is drawn from a generator that no other thread draws from.

    Not torch's: 16 bits a number of a generator for which 64 are one step take a quarter of the time. Only what Python
    calls is seen here; `Lane.try_out` finds out whether anything else draws.
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
        """Begin anew."""
        self._generator = np.random.SFC64(value)

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """What a function of torch gives, or our own in its place."""
        del types
        return self._own.get(func, func)(*args, **(kwargs or {}))

    def _noise(self, like: Tensor, p: float) -> Tensor:
        """0 with the probability `p`, else what keeps the mean at 1."""
        count, dropped = like.numel(), round(p * 2**_BITS)
        if dropped == 2**_BITS:
            return torch.zeros_like(like)
        bits = torch.from_numpy(self._generator.random_raw(-(-count * _BITS // 64)).view(np.int16))[:count]
        kept = bits >= dropped - 2 ** (_BITS - 1)
        noise: Tensor = kept.view(like.shape).to(like.dtype)
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
        with torch.autocast(query.device.type, enabled=False):
            return self._weighed(query, key, value, attn_mask, dropout_p, scale).to(query.dtype)

    def _weighed(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout_p: float, scale: float | None
    ) -> Tensor:
        """Computed as torch does it: narrow types are widened."""
        if query.dtype in (torch.bfloat16, torch.float16):
            query, key, value = query.float(), key.float(), value.float()
        # Half of the scale on each side, for the sake of great numbers.
        half = (query.shape[-1] ** -0.5 if scale is None else scale) ** 0.5
        scores = (query * half) @ (key * half).transpose(-2, -1)
        softmax: Callable[[Tensor, int], Tensor] = torch.softmax
        if mask is not None and not (mask.dtype is torch.bool and mask.any(-1).all()):
            # A query that sees nothing weighs by zeros and not by NaN; that takes twice as long.
            softmax = torch._safe_softmax  # noqa: SLF001 - torch has it under no other name
        if mask is not None and mask.dtype is torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
        if mask is not None:
            scores = scores.add_(mask)
        return self._dropout(softmax(scores, -1), dropout_p) @ value
