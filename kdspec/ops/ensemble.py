"""Ensembles of teachers: the mean of their logits or probabilities, and weights for each row.

Logits have shape (..., classes), the same for all K teachers. Weights sum to 1 over the K teachers; they have shape (K,),
or (K, ...) with weights for each row. Without them all teachers have equal weight. Nothing here has a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kdspec.ops.precision import widened

IGNORE = -100


@torch.no_grad()
def mean_logits(teachers: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
    """Σ_k w_k z_k: the mean of the logits before the temperature (TextBrewer's `MultiTeacherDistiller`).

    A class at -inf in a teacher of non-zero weight is -inf.
    """
    stacked = _stacked(teachers)
    if weights is None:
        return stacked.sum(0) / len(teachers)
    column = _column(weights, stacked)
    # 0 · -inf is NaN: a teacher of weight 0 must be left out, not multiplied.
    return torch.where(column == 0, 0.0, column * stacked).sum(0)


@torch.no_grad()
def mean_probabilities(
    teachers: Sequence[Tensor], weights: Tensor | None = None, *, temperature: Tensor | float
) -> Tensor:
    """T log Σ_k w_k softmax(z_k / T): logits whose softmax at T is the mean of the tempered probabilities.

    `temperature` is a number or a tensor of the leading shape. A class is -inf if it is -inf in all teachers.

    Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 3; You et al. 2017, "Learning from
    Multiple Teacher Networks", equation 6.
    """
    stacked = _stacked(teachers)
    t: Tensor | float = temperature
    if isinstance(temperature, Tensor):
        t = temperature.to(stacked.dtype)
        t = t if t.ndim == 0 else t[..., None]
    # In logarithms: the mean of probabilities that underflow to 0 would have the logarithm -inf.
    logs = (stacked / t).log_softmax(-1)
    share = -math.log(len(teachers)) if weights is None else _column(weights, stacked).log()
    return (logs + share).logsumexp(0) * t


@torch.no_grad()
def confidence(teachers: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
    """Weights for each row, (K, ...): w_k = (1 - softmax_k(L)_k) / (K - 1), where L_k is the loss of teacher k.

    L_k is its cross-entropy on the label at temperature 1. For rows without a label (-100), and for all rows if `labels`
    is None or not of the leading shape, L_k is the teacher's entropy: the expected cross-entropy under its own
    distribution. A single teacher has weight 1.

    Zhang et al. 2022, "Confidence-Aware Multi-Teacher Knowledge Distillation", equations 3 and 4. For unlabelled rows the
    teacher with the lower entropy has the larger weight, as in Kwon et al. 2020, "Adaptive Knowledge Distillation Based on
    Entropy".
    """
    stacked = _stacked(teachers)
    if len(teachers) == 1:
        return torch.ones(stacked.shape[:-1], dtype=stacked.dtype, device=stacked.device)
    logs = stacked.log_softmax(-1)
    p = logs.exp()
    wrong = -torch.where(p > 0, p * logs, 0.0).sum(-1)  # 0 log 0 is 0
    if labels is not None and labels.shape == stacked.shape[1:-1] and not labels.is_floating_point():
        labelled = labels != IGNORE
        # gather needs valid indices; the value for -100 is replaced below.
        index = torch.where(labelled, labels, 0)[None, ..., None].expand(*wrong.shape, 1)
        wrong = torch.where(labelled, -logs.gather(-1, index).squeeze(-1), wrong)
    # A teacher with probability 0 for the label has an infinite loss, and a softmax of two infinities is NaN.
    worst = torch.finfo(wrong.dtype).max / 2
    return (1 - wrong.clamp_max(worst).softmax(0)) / (len(teachers) - 1)


def _stacked(teachers: Sequence[Tensor]) -> Tensor:
    shapes = {tuple(logits.shape) for logits in teachers}
    assert len(shapes) == 1, f"the teachers' logits differ in shape: {', '.join(map(str, sorted(shapes)))}"
    return torch.stack([widened(logits) for logits in teachers])


def _column(weights: Tensor, stacked: Tensor) -> Tensor:
    """The weights, reshaped to broadcast over rows and classes."""
    weights = weights.to(device=stacked.device, dtype=stacked.dtype)
    assert weights.shape in ((stacked.shape[0],), stacked.shape[:-1]), (
        f"weights of shape {tuple(weights.shape)} for {stacked.shape[0]} teachers of {tuple(stacked.shape[1:])}"
    )
    return weights.reshape(*weights.shape, *[1] * (stacked.ndim - weights.ndim))
