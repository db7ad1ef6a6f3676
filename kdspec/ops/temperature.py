"""Temperatures that depend on the logits of a step: harder or less certain rows get a lower one.

Dynamic temperature distillation: Wen et al. 2019, "Preparing Lessons: Improve Knowledge Distillation with Better
Supervision", section 3.3; the constants are TextBrewer's. Logits have shape (..., classes), the result has the leading
shape, a type of at least float32 and no gradient. The weights are centred over all rows, so the temperatures average to
`base` unless some are raised to `minimum`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kdspec.ops.precision import widened

# At T = 0.1 the softmax of logits that differ by 1 is one-hot (p > 0.9999), so a lower temperature does not change the
# target. Gradients grow with 1/T, so a row with a lower temperature would dominate all others.
MINIMUM = 0.1


class Sides(NamedTuple):
    """A temperature for each side: a number, or a tensor of the leading shape."""

    student: Tensor | float
    teacher: Tensor | float

    def scaled(self, teacher: Tensor) -> Tensor:
        """The teacher's logits for a loss at the student's temperature: divided by that, they are at their own.

        So every loss of logits divided by one temperature is one of two temperatures, with the student's in its factor T².
        """
        factor = self.student / self.teacher
        if isinstance(factor, Tensor) and factor.ndim:
            factor = factor[..., None]
        return widened(teacher) * factor


@torch.no_grad()
def flsw(
    student: Tensor, teacher: Tensor, base: float, beta: float, gamma: float, *, minimum: float = MINIMUM
) -> Tensor:
    """Focal-loss-style weights, w = (1 - ŝ·t̂)^gamma with ŝ = s / (‖s‖ + 1e-4) and t̂ likewise.

    T = base + beta (mean(w) - w), at least `minimum`: rows with a student far from the teacher have a lower temperature.
    """
    assert student.shape == teacher.shape, (
        f"student logits of shape {tuple(student.shape)}, teacher logits of shape {tuple(teacher.shape)}"
    )
    cosine = (_direction(student) * _direction(teacher)).sum(-1)
    # Rounding may give equal directions a cosine above 1; a fractional power of the negative difference is NaN.
    return _centred((1 - cosine).clamp_min(0) ** gamma, base, beta, minimum)


@torch.no_grad()
def cwsm(student: Tensor, base: float, beta: float, *, minimum: float = MINIMUM) -> Tensor:
    """Confidence weights, w = 1 / (max softmax(s) + 1e-3).

    T = base + beta (mean(w) - w), at least `minimum`: rows of low confidence have a lower temperature.
    """
    confidence = widened(student).softmax(-1).amax(-1)
    return _centred(1 / (confidence + 1e-3), base, beta, minimum)


def _direction(logits: Tensor) -> Tensor:
    # A class at -inf (ruled out) would make the norm infinite and the direction NaN.
    logits = widened(logits)
    logits = torch.where(logits.isneginf(), 0.0, logits)
    norm: Tensor = torch.linalg.vector_norm(logits, dim=-1, keepdim=True)
    return logits / (norm + 1e-4)


def _centred(weight: Tensor, base: float, beta: float, minimum: float) -> Tensor:
    return (base + beta * (weight.mean() - weight)).clamp_min(minimum)
