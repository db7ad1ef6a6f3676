"""Correlation of two lists of numbers. Values are float64 of shape (n,); results are scalars."""

from __future__ import annotations

import torch
from torch import Tensor


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation, Σ (x - x̄)(y - ȳ) / √(Σ (x - x̄)² Σ (y - ȳ)²): from -1 to 1, NaN where either is constant."""
    x, y = first - first.mean(), second - second.mean()
    # Two norms, not the root of the product of the sums of squares: that product may underflow.
    return (x * y).sum() / (x.norm() * y.norm()) if _varies(first) and _varies(second) else x.new_tensor(torch.nan)


def ranks(values: Tensor) -> Tensor:
    """The rank of each value, counted from 1; equal values share their mean rank, as in Spearman's correlation."""
    values = values.contiguous()  # searchsorted copies a non-contiguous tensor and warns
    order = values.sort().values
    starts = torch.searchsorted(order, values)
    ends = torch.searchsorted(order, values, right=True)
    return (starts + ends + 1).to(values.dtype) / 2


def _varies(values: Tensor) -> bool:
    # Not by the variance: the mean is rounded, so differences from it may be non-zero although all values are equal.
    return bool((values != values[0]).any())
