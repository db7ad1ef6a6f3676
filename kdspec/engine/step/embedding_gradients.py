"""Gradients of large embeddings, added where they are kept: without a whole table of zeros for each micro-batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

LEAST = 2**20
"""Weights of an embedding that it pays for: smaller tables are filled and added in no time."""

Add = Callable[[Tensor, Tensor, Tensor], None]
"""Given a weight, numbers of its rows, and what to add to the gradients of these."""


class InPlace:
    """A context in which backward passes add to the gradients of large embeddings directly.

    A batch has some thousand of the rows of a vocabulary. Autograd makes a gradient of all rows, mostly zeros, and adds it
    to the one that there is: for 28,996 rows of 768 weights twice 90 MB in each micro-batch. The sums are the same, but added
    row by row, so that with several micro-batches last digits may differ. Not for a gradient that hooks wait for, as those
    of DDP do.

    Args:
        module: what has embeddings.
        keep: whether a gradient that has been used is kept for the next step, when its rows are set to 0 and no others.
            Not where anything adds to other rows of it, or multiplies them with what is not finite.
        add: what to do with what there is to add, in place of adding it.
    """

    def __init__(self, module: nn.Module, *, keep: bool = False, add: Add | None = None) -> None:
        self._embeddings = [inner for inner in module.modules() if isinstance(inner, nn.Embedding) and _pays(inner)]
        weights = [inner.weight for inner in self._embeddings]
        self._tables = {id(weight): _Table(weight, keep=keep) for weight in weights}
        self._add = add or self.add
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        for inner in self._embeddings:
            self._handles.append(inner.register_forward_hook(self._look_up))
        for table in self._tables.values() if self._add == self.add else ():
            self._handles += table.watch()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gradients go their ordinary way from now on."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def add(self, weight: Tensor, rows: Tensor, gradients: Tensor) -> None:
        """Add to rows of the gradient of an embedding."""
        self._tables[id(weight)].add(rows, gradients)

    def _look_up(self, module: nn.Embedding, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        """The same output with another way back; the way that it came is left out, as nothing is made of it."""
        if not (output.requires_grad and args):
            return None
        found: Tensor = _Lookup.apply(args[0], module.weight, output.detach(), module.padding_idx, self._add)  # type: ignore[no-untyped-call] # untyped in torch
        return found


class _Table:
    """The gradient of one weight."""

    def __init__(self, weight: Tensor, *, keep: bool) -> None:
        self.weight, self.keep = weight, keep
        self._kept: Tensor | None = None
        self._rows: list[Tensor] = []
        """Those that are not 0 in what is kept."""

    def add(self, rows: Tensor, gradients: Tensor) -> None:
        if self.weight.grad is None:
            self.weight.grad = self._zeros()
        self.weight.grad.index_add_(0, rows, gradients)
        self._rows.append(rows)

    def watch(self) -> list[Any]:
        """Hooks by which autograd tells that it has added to any of the rows: the weight is used elsewhere too."""
        if not (self.keep and self.weight.requires_grad):
            self.keep = False
            return []
        return [self.weight.register_hook(self._mark)]  # type: ignore[no-untyped-call] # untyped in torch

    def _mark(self, gradient: Tensor | None) -> None:
        if gradient is not None:
            self.keep, self._kept = False, None

    def _zeros(self) -> Tensor:
        rows, self._rows = self._rows, []
        if self._kept is None:
            made = torch.zeros_like(self.weight)
            self._kept = made if self.keep else None
            return made
        for each in rows:
            self._kept.index_fill_(0, each, 0)
        return self._kept


def _pays(module: nn.Embedding) -> bool:
    if module.sparse or module.scale_grad_by_freq or module.max_norm:
        return False
    return module.weight.numel() >= LEAST and module.weight.device.type == "cpu"


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, weight: Tensor, output: Tensor, padding: int | None, add: Add) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.weight, ctx.padding, ctx.add = weight, padding, add
        return output.view_as(output)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None, None, None]:
        (ids,) = ctx.saved_tensors
        rows, gradients = ids.reshape(-1), gradient.reshape(-1, gradient.shape[-1])
        if ctx.padding is not None:
            told = rows != ctx.padding
            rows, gradients = rows[told], gradients[told]
        ctx.add(ctx.weight, rows, gradients)
        return None, None, None, None, None
