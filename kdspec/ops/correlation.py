"""How two lists of numbers vary together. Values are float64 of shape (n,); the results are scalars."""

from __future__ import annotations

import torch
from torch import Tensor


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation, Σ (x - x̄)(y - ȳ) / √(Σ (x - x̄)² Σ (y - ȳ)²): from -1 to 1, NaN where either is constant."""
    x, y = first - first.mean(), second - second.mean()
    # the product of two sums of squares may be too small to be a number where neither is
    return (x * y).sum() / (x.norm() * y.norm()) if _varies(first) and _varies(second) else x.new_tensor(torch.nan)


def ranks(values: Tensor) -> Tensor:
    """The place of each value, counted from 1; equal values share the mean of theirs, as Spearman's correlation has it."""
    values = values.contiguous()  # of a column it would be copied with a warning
    order = values.sort().values
    starts = torch.searchsorted(order, values)
    ends = torch.searchsorted(order, values, right=True)
    return (starts + ends + 1).to(values.dtype) / 2


def _varies(values: Tensor) -> bool:
    # a mean is rounded, so that the differences from it need not be 0 where all values are the same
    return bool((values != values[0]).any())
