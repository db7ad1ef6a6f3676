"""Correlation of two lists of numbers or of classes. Numbers are float64 of shape (n,); results are scalars."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation, Σ (x - x̄)(y - ȳ) / √(Σ (x - x̄)² Σ (y - ȳ)²): from -1 to 1, NaN where either is constant."""
    x, y = first - first.mean(), second - second.mean()
    # Two norms, not the root of the product of the sums of squares: that product may underflow.
    return (x * y).sum() / (x.norm() * y.norm()) if _varies(first) and _varies(second) else x.new_tensor(torch.nan)


def matthews(first: Tensor, second: Tensor) -> float:
    """Matthews' correlation of two lists of classes, int64 of shape (n,): from -1 to 1, and 0 where either is constant.

    (n c - Σ f_k s_k) / √((n² - Σ f_k²) (n² - Σ s_k²)) with c equal pairs among n, and f_k and s_k occurrences of class k in
    each list. The counts are integers, so that 0 is exact. Gorodkin 2004, "Comparing two K-category assignments by a
    K-category correlation coefficient" (https://doi.org/10.1016/j.compbiolchem.2004.09.006).
    """
    pairs, equal = len(first), int((first == second).sum())
    classes = int(torch.cat([first, second]).max()) + 1 if pairs else 0
    one, other = (values.bincount(minlength=classes) for values in (first, second))
    covariance = pairs * equal - int((one * other).sum())
    of_one, of_other = (pairs**2 - int((counts * counts).sum()) for counts in (one, other))
    return covariance / math.sqrt(of_one * of_other) if of_one and of_other else 0.0


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
