"""The hard loss over labelled positions only, so that a large head is applied only to these."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from kdspec.api.working.logits import HeadLogits, Logits
from kdspec.ops.mean import Mean

IGNORE = -100
"""The label of an unlabelled position."""


def loss_of_labels(logits: Logits, labels: Tensor, loss: Callable[[Tensor, Tensor], Mean]) -> Mean:
    """The hard loss of a task; for a large head with one label per position, only labelled positions are computed.

    Args:
        logits: of rows, or of the tokens of rows.
        labels: the targets; with one label per position, they have the leading shape of the logits.
        loss: a loss of the scope `position`, of logits and labels.
    """
    if not isinstance(logits, HeadLogits) or labels.shape != logits.shape:
        return loss(logits.dense(), labels)
    known = labels != IGNORE
    right = labels[known]
    return logits.select(known).mean(lambda part, rows: loss(part, right[rows]))
