"""The loss of labels over the positions that have one, so that a large head is applied to no others."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from kdspec.api.logits import HeadLogits, Logits
from kdspec.ops.mean import Mean

IGNORE = -100
"""The label of a position that has none."""


def loss_of_labels(logits: Logits, labels: Tensor, loss: Callable[[Tensor, Tensor], Mean]) -> Mean:
    """The loss of a task; of a large head position by position, where each has a label or none.

    Args:
        logits: of a row, or of its tokens.
        labels: what they are to be, of the leading shape of the logits where there is one a position.
        loss: of logits and labels, takes each position by itself.
    """
    if not isinstance(logits, HeadLogits) or labels.shape != logits.shape:
        return loss(logits.dense(), labels)
    known = labels != IGNORE
    right = labels[known]
    return logits.select(known).mean(lambda part, rows: loss(part, right[rows]))
