"""Masks of shape (batch, length): a position is kept if the mask is not 0."""

from __future__ import annotations

import torch
from torch import Tensor


def select(tensor: Tensor, mask: Tensor) -> Tensor:
    """The kept positions in row-major order: (batch, length, ...) to (kept, ...).

    The result's shape depends on the mask, so a GPU is synchronised.
    """
    assert tensor.shape[: mask.ndim] == mask.shape, (
        f"a mask of shape {tuple(mask.shape)} does not select from {tuple(tensor.shape)}"
    )
    return tensor[mask != 0]


def rule_out(logits: Tensor, mask: Tensor) -> Tensor:
    """Logits over positions, (batch, length), with -inf at masked positions: their softmax is 0."""
    return torch.where(mask != 0, logits, -torch.inf)


def filled(tensor: Tensor, mask: Tensor | None, value: float = 0.0) -> Tensor:
    """`tensor`, (batch, length, ...), with `value` at masked positions.

    It selects and does not multiply, so that Inf or NaN at padding reaches neither the value nor the gradient.
    """
    if mask is None:
        return tensor
    assert tensor.shape[:2] == mask.shape, (
        f"a mask of shape {tuple(mask.shape)} does not fit a tensor of shape {tuple(tensor.shape)}"
    )
    return torch.where((mask != 0)[(..., *(None,) * (tensor.ndim - 2))], tensor, value)


def tokens(mask: Tensor | None, batch: int, length: int) -> Tensor | float:
    """The number of kept positions; all without a mask."""
    return float(batch * length) if mask is None else (mask != 0).sum()


def pairs(mask: Tensor | None, batch: int, length: int) -> Tensor | float:
    """The number of pairs of kept positions: the sum over rows of their squared number of kept positions."""
    return float(batch * length**2) if mask is None else (mask != 0).sum(-1).square().sum()
