"""Scaling of the scores of candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from kdspec.ops.precision import widened

_EPSILON = 1e-8


def scaled_to_one(scores: Tensor) -> Tensor:
    """(s - min) / (max - min + 1e-8) over the candidates of each row, `(..., candidates)`: 0 for the worst, 1 for the best.

    A candidate at -inf is not there, and stays so. The gradient flows through minimum and maximum, as it does in PyLate's
    `Distillation`. A row of equal scores is all 0.
    """
    scores = widened(scores)
    there = ~scores.isneginf()
    known = torch.where(there, scores, 0.0)
    best = torch.where(there, known, -torch.inf).amax(-1, keepdim=True)
    worst = torch.where(there, known, torch.inf).amin(-1, keepdim=True)
    empty = ~there.any(-1, keepdim=True)
    best, worst = (torch.where(empty, 0.0, each) for each in (best, worst))
    return torch.where(there, (known - worst) / (best - worst + _EPSILON), -torch.inf)
