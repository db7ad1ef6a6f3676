"""Accumulates gradients of large embeddings in place, without a dense gradient for each micro-batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

LEAST = 2**20
"""Minimum elements of an embedding for which this pays: dense gradients of smaller ones are cheap."""

Add = Callable[[Tensor, Tensor, Tensor], None]
"""Adds to a weight's gradient: called with the weight, the row numbers, and the gradients of these rows."""


class InPlace:
    """A context in which backward passes add to the gradients of large embeddings in place.

    A batch reads some thousand rows of a vocabulary. Autograd creates a gradient of all rows, mostly zeros, and adds it to
    the existing one: for 28,996 rows of 768 weights twice 90 MB in each micro-batch. The sums are the same, but are added
    row by row, so that with several micro-batches the last digits may differ. Gradient hooks, such as those of DDP, are
    not called.

    Args:
        module: the module with the embeddings.
        keep: whether the gradient tensor is reused in the next step, with only the rows of this step set to 0. Not allowed
            if anything else adds to other rows of it or multiplies them by a non-finite number.
        add: called in place of adding to the gradient.
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
        """Leave gradients to autograd from now on."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def add(self, weight: Tensor, rows: Tensor, gradients: Tensor) -> None:
        """Add to rows of the gradient of an embedding."""
        self._tables[id(weight)].add(rows, gradients)

    def _look_up(self, module: nn.Embedding, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        """The same output with another backward function; the original graph is detached."""
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
        """The rows of the kept gradient that are not 0."""

    def add(self, rows: Tensor, gradients: Tensor) -> None:
        if self.weight.grad is None:
            self.weight.grad = self._zeros()
        self.weight.grad.index_add_(0, rows, gradients)
        self._rows.append(rows)

    def watch(self) -> list[Any]:
        """Hooks that detect gradients from autograd: the weight is then also used elsewhere, such as in a tied head."""
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
        # Only the rows that were used: clearing the whole table is the cost that this class avoids.
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
        # As in torch: the padding row gets no gradient.
        if ctx.padding is not None:
            real = rows != ctx.padding
            rows, gradients = rows[real], gradients[real]
        ctx.add(ctx.weight, rows, gradients)
        return None, None, None, None, None
