"""Scores of predicted classes from counts of each class, in memory linear in the classes."""

from __future__ import annotations

import torch
from torch import Tensor


def macro_f1(predicted: Tensor, truth: Tensor, classes: int) -> float:
    """The mean over the classes of F1 = 2 tp / (2 tp + fp + fn); classes that neither list has are left out.

    The value is that of torchmetrics' `multiclass_f1_score`, to the last bit, hence float32. That function counts all pairs
    of classes: 8 bytes times the square of their number.

    Args:
        predicted: int64 of shape (n,).
        truth: int64 of shape (n,).
        classes: the number of classes; both lists are from 0 to `classes` - 1.
    """
    right = truth[predicted == truth].bincount(minlength=classes)
    given, due = (values.bincount(minlength=classes) for values in (predicted, truth))
    # In this order of the sums: those of torchmetrics, which are rounded.
    scores = _ratio(2.0 * right, 2.0 * right + 1.0 * (due - right) + (given - right))
    there = (given + due != 0).to(scores.dtype)
    return _ratio(there * scores, there.sum(-1, keepdim=True)).sum(-1).item()


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """The quotient, 0 where the divisor is 0."""
    return torch.where(whole != 0, part / whole, torch.zeros((), dtype=part.dtype, device=part.device))
