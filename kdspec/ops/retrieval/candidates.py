"""Scores of the candidates of queries: the loss of hard labels."""

from __future__ import annotations

import torch
from torch import Tensor

from kdspec.ops.mean import Mean
from kdspec.ops.precision import widened


def cross_entropy_of_positives(scores: Tensor, positives: Tensor, candidates: Tensor) -> Mean:
    """The cross-entropy of each positive among the negatives of its query, -log(e^s⁺ / (e^s⁺ + Σ e^s⁻)).

    The mean over the positives of a row, then over the rows with a positive. Another positive of the row is no negative, so
    with one positive it is the cross-entropy over all candidates. A row without a negative has the loss 0.

    Args:
        scores: `(rows, n)`; masked ones may have any value.
        positives: `(rows, n)`, not 0 for a positive.
        candidates: `(rows, n)`, not 0 for a candidate.
    """
    scores, there = widened(scores), candidates != 0
    right = there & (positives != 0)
    wrong = there & ~right
    # Rows without negatives get one of score 0 for the sum, which is replaced below: a sum of nothing has no gradient.
    alone = ~wrong.any(-1, keepdim=True)
    negatives = torch.where(wrong, scores, torch.where(alone, 0.0, -torch.inf)).logsumexp(-1, keepdim=True)
    each = torch.logaddexp(negatives - torch.where(right, scores, 0.0), torch.zeros_like(scores))
    counted = right & ~alone
    number = right.sum(-1)
    rows = torch.where(counted, each, 0.0).sum(-1) / number.clamp(min=1)
    return Mean(rows.sum(), (number > 0).sum(), "labelled")
