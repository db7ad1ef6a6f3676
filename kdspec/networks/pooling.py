"""One vector of the vectors of a row's tokens."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["mean", "first", "last", "max"]
"""What becomes of the tokens: their mean, the first or the last of them, or the largest number in each dimension."""


def pooled(states: Tensor, mask: Tensor | None, how: Pooling) -> Tensor:
    """One vector a row, `(rows, width)`; padding does not matter.

    A mean of half-precision states is summed in float32, as sentence-transformers does it.

    Args:
        states: `(rows, length, width)`.
        mask: `(rows, length)`, 0 at padding, left or right; None: no padding. A row has at least one token.
        how: `first` and `last` are the first and the last token of the row, special tokens included.
    """
    if mask is None:
        mask = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
    kept = mask != 0
    if how == "mean":
        total = torch.where(kept[..., None], states, 0.0).sum(1, dtype=torch.promote_types(states.dtype, torch.float32))
        return (total / kept.sum(1, keepdim=True).clamp_min(1)).to(states.dtype)
    if how == "max":
        return torch.where(kept[..., None], states, -torch.inf).amax(1)
    places = torch.arange(states.shape[1], device=states.device)
    at = (
        torch.where(kept, places, states.shape[1] - 1).amin(1)
        if how == "first"
        else torch.where(kept, places, 0).amax(1)
    )
    return states.gather(1, at[:, None, None].expand(-1, 1, states.shape[-1]))[:, 0]
