"""Gradients of large embeddings, added where they are kept: without a whole table of zeros for each micro-batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

LEAST = 2**20
"""Weights of an embedding that it pays for: smaller tables are filled and added in no time."""


@contextmanager
def in_place(module: nn.Module) -> Iterator[None]:
    """While this lasts, backward passes add to the gradients of large embeddings directly.

    A batch has some thousand of the rows of a vocabulary. Autograd makes a gradient of all rows, mostly zeros, and adds it
    to the one that there is: for 28,996 rows of 768 weights twice 90 MB in each micro-batch. The sums are the same, but added
    row by row, so that with several micro-batches last digits may differ. Not for a gradient that hooks wait for, as those
    of DDP do.
    """
    handles = [inner.register_forward_hook(_look_up) for inner in module.modules() if _pays(inner)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _pays(module: nn.Module) -> bool:
    if not isinstance(module, nn.Embedding) or module.sparse or module.scale_grad_by_freq or module.max_norm:
        return False
    return module.weight.numel() >= LEAST and module.weight.device.type == "cpu"


def _look_up(module: nn.Embedding, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
    """The same output with another way back; the way that it came is left out, as nothing is made of it."""
    if not (output.requires_grad and args):
        return None
    found: Tensor = _Lookup.apply(args[0], module.weight, output.detach(), module.padding_idx)  # type: ignore[no-untyped-call] # untyped in torch
    return found


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, weight: Tensor, output: Tensor, padding: int | None) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.weight, ctx.padding = weight, padding
        return output.view_as(output)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None, None]:
        (ids,) = ctx.saved_tensors
        rows, gradients = ids.reshape(-1), gradient.reshape(-1, gradient.shape[-1])
        if ctx.padding is not None:
            told = rows != ctx.padding
            rows, gradients = rows[told], gradients[told]
        if ctx.weight.grad is None:
            ctx.weight.grad = torch.zeros_like(ctx.weight)
        ctx.weight.grad.index_add_(0, rows, gradients)
        return None, None, None, None
