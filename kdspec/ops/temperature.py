"""Temperatures that depend on the logits of a step: harder or less certain rows get a lower one.

Dynamic temperature distillation: Wen et al. 2019, "Preparing Lessons: Improve Knowledge Distillation with Better
Supervision", section 3.3; the constants are TextBrewer's. Logits have shape (..., classes), the result has the leading
shape, a type of at least float32 and no gradient. The weights are centred over all rows, so the temperatures average to
`base` unless some are raised to `minimum`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdspec.ops.precision import widened

# A softmax at a tenth picks out the largest of logits that differ by one (p > 0.9999), so colder targets are no
# different; and as gradients grow with 1/T, a row that is colder still would drown all the others.
MINIMUM = 0.1


@torch.no_grad()
def flsw(
    student: Tensor, teacher: Tensor, base: float, beta: float, gamma: float, *, minimum: float = MINIMUM
) -> Tensor:
    """Focal-loss-style weights, w = (1 - ŝ·t̂)^gamma with ŝ = s / (‖s‖ + 1e-4) and t̂ likewise.

    T = base + beta (mean(w) - w), at least `minimum`: rows on which the student is far from the teacher are colder.
    """
    assert student.shape == teacher.shape, (
        f"student logits of shape {tuple(student.shape)}, teacher logits of shape {tuple(teacher.shape)}"
    )
    cosine = (_direction(student) * _direction(teacher)).sum(-1)
    # rounding takes the cosine of equal directions past 1, and a root of what is then negative is nan
    return _centred((1 - cosine).clamp_min(0) ** gamma, base, beta, minimum)


@torch.no_grad()
def cwsm(student: Tensor, base: float, beta: float, *, minimum: float = MINIMUM) -> Tensor:
    """Confidence weights, w = 1 / (max softmax(s) + 1e-3).

    T = base + beta (mean(w) - w), at least `minimum`: rows of which the student is unsure are colder.
    """
    confidence = widened(student).softmax(-1).amax(-1)
    return _centred(1 / (confidence + 1e-3), base, beta, minimum)


def _direction(logits: Tensor) -> Tensor:
    # a class that is ruled out, at -inf, has no say in the direction
    logits = widened(logits)
    logits = torch.where(logits.isneginf(), 0.0, logits)
    norm: Tensor = torch.linalg.vector_norm(logits, dim=-1, keepdim=True)
    return logits / (norm + 1e-4)


def _centred(weight: Tensor, base: float, beta: float, minimum: float) -> Tensor:
    return (base + beta * (weight.mean() - weight)).clamp_min(minimum)
