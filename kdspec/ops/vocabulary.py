"""Losses over a large vocabulary in the memory of one chunk: the head is applied, and its gradient taken, chunk by chunk.

The logits of N positions over V classes take 4 N V bytes, and a divergence keeps several times as much for its backward
pass. Here the logits of one chunk of positions exist at a time: their gradient is taken in the forward pass, while they are
there, and what is kept is the gradient of the hidden states and that of the weight. The backward pass multiplies by a number.

The trick is that of Liger Kernel (Hsu et al. 2024, arXiv 2410.10989) and of torchtitan's chunked loss, for any loss that is a
sum over positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

BUDGET = 2**28
"""Bytes that a chunk may take."""
COPIES = 6
"""How often the logits of a chunk are there at the same time, at most: student, teacher, their logarithms, a gradient."""
LEAST = 16
"""Positions below which a chunk is too small to keep a processor busy."""

ChunkLoss = Callable[[slice, Tensor], Tensor]
"""Given some positions and their logits, `(positions, classes)`, the sum of their losses, a scalar."""


def chunk_size(positions: int, classes: int, budget: int = BUDGET) -> int:
    """How many positions a chunk has, so that it stays within a number of bytes; at least 1 and at most all."""
    return max(1, min(positions, max(LEAST, budget // (COPIES * classes * torch.float32.itemsize))))


def summed_over_chunks(
    loss: ChunkLoss,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    post: Callable[[Tensor], Tensor] | None = None,
    parameters: Sequence[Tensor] = (),
    size: int | None = None,
) -> Tensor:
    """The sum of `loss` over all chunks of the logits `post(hidden @ weight.T + bias)`, with its gradient.

    It is differentiable once, with respect to `hidden`, `weight`, `bias` and `parameters`. Gradients of weight, bias and
    parameters are added up in float32 at least. Without any position the loss is asked once, for a chunk of none.

    Args:
        loss: what to add up. It must not look at other positions than those that it is given.
        hidden: `(positions, width)`.
        weight: `(classes, width)`.
        bias: `(classes,)`.
        post: what becomes of the logits; differentiable.
        parameters: what else the loss depends on and is to have a gradient.
        size: positions of a chunk; what fits by default.
    """
    positions, classes = hidden.shape[0], weight.shape[0]
    assert hidden.ndim == 2, f"hidden states of shape {tuple(hidden.shape)} are not (positions, width)"
    size = chunk_size(positions, classes) if size is None else size
    total: Tensor = _Summed.apply(loss, post, size, hidden, weight, bias, *parameters)  # type: ignore[no-untyped-call] # untyped in torch
    return total


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, loss: ChunkLoss, post: Callable[[Tensor], Tensor] | None, size: int,
        hidden: Tensor, weight: Tensor, bias: Tensor | None, *parameters: Tensor,
    ) -> Tensor:  # fmt: skip
        given = (hidden, weight, bias, *parameters)
        wanted = tuple(t is not None and needed for t, needed in zip(given, ctx.needs_input_grad[3:], strict=True))
        gradients = [_zeros(t) if t is not None and w else None for t, w in zip(given, wanted, strict=True)]
        product = _product_type(hidden)
        matrix, offset = weight.to(product), None if bias is None else bias.to(product)
        total = torch.zeros((), dtype=_wide(hidden.dtype), device=hidden.device)
        learnt = [parameter for parameter, w in zip(parameters, wanted[3:], strict=True) if w]
        for start in range(0, max(hidden.shape[0], 1), size):
            rows = slice(start, min(start + size, hidden.shape[0]))
            states = hidden[rows].to(product)
            logits = functional.linear(states, matrix, offset).requires_grad_(any(wanted))
            with torch.set_grad_enabled(any(wanted)):
                part = loss(rows, logits if post is None else post(logits))
            total += part.detach()
            if part.requires_grad:
                found = torch.autograd.grad(part, [logits, *learnt], allow_unused=True)
                del part  # the chunk's graph
                _add(gradients, rows, found, states, matrix)
        ctx.save_for_backward(*gradients)
        ctx.types = tuple(None if t is None else t.dtype for t in given)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        scaled = (
            None if kept is None else (kept * upstream).to(dtype)
            for kept, dtype in zip(ctx.saved_tensors, ctx.types, strict=True)
        )
        return None, None, None, *scaled


def _add(
    gradients: list[Tensor | None], rows: slice, found: Sequence[Tensor | None], states: Tensor, matrix: Tensor
) -> None:
    """Add what a chunk gives to the gradients of hidden states, weight, bias and parameters."""
    of_logits, *of_parameters = found
    of_hidden, of_weight, of_bias, *wanted = gradients
    if of_logits is not None:
        if of_hidden is not None:
            of_hidden[rows] = (of_logits @ matrix).to(of_hidden.dtype)
        if of_weight is not None:
            # Narrow products are added in float32: hundreds of chunks added in bfloat16 would lose the small ones.
            if of_logits.dtype == of_weight.dtype:
                of_weight.addmm_(of_logits.T, states)
            else:
                of_weight += of_logits.T @ states
        if of_bias is not None:
            of_bias += of_logits.sum(0, dtype=of_bias.dtype)
    learnt = [gradient for gradient in wanted if gradient is not None]
    for gradient, own in zip(learnt, of_parameters, strict=True):
        if own is not None:
            gradient.add_(own)


def _zeros(tensor: Tensor) -> Tensor:
    return torch.zeros(tensor.shape, dtype=_wide(tensor.dtype), device=tensor.device)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _product_type(hidden: Tensor) -> torch.dtype:
    """The type that the linear layer would compute in, by autocast or its own."""
    kind = hidden.device.type
    if kind != "meta" and hidden.dtype != torch.float64 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return hidden.dtype
