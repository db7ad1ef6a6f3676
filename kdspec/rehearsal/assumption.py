"""Operations with data-dependent shapes: on fake tensors every position is kept and all values are equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten


def assumed(func: Any, args: tuple[Any, ...]) -> Any | None:
    """The result of an operation that `FakeTensorMode` does not support; None for any other operation.

    A mask selects everything, which gives the largest possible shape.
    """
    if func is _aten.index.Tensor:
        return _selected(*args)
    if func is _aten.masked_select.default:
        return args[0].new_empty(args[1].expand_as(args[0]).numel())
    if func is _aten.nonzero.default:
        return args[0].new_empty((args[0].numel(), args[0].ndim), dtype=torch.int64)
    if func is _aten.unique_consecutive.default:
        return _unique(args[0])
    return None


def _selected(tensor: Tensor, indices: Sequence[Tensor | None]) -> Tensor | None:
    """`tensor[mask]`, or None if a mask is not the only index."""
    places = [place for place, index in enumerate(indices) if index is not None]
    mask = indices[places[0]]
    if len(places) != 1 or mask is None or mask.dtype not in (torch.bool, torch.uint8):
        return None
    before, after = tensor.shape[: places[0]], tensor.shape[places[0] + mask.ndim :]
    return tensor.new_empty((*before, mask.numel(), *after))


def _unique(tensor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One value, the index of each element, and the count."""
    return (
        tensor.new_empty(min(tensor.numel(), 1)),
        tensor.new_empty(tensor.shape, dtype=torch.int64),
        tensor.new_empty(min(tensor.numel(), 1), dtype=torch.int64),
    )
