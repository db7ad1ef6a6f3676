"""The equations of decoupled knowledge distillation, as pure functions of tensors.

Zhao et al. 2022, "Decoupled Knowledge Distillation" (CVPR, https://arxiv.org/abs/2203.08679).
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdspec import Mean

UNLABELLED = -100


def dkd(
    student: Tensor, teacher: Tensor, *, temperature: Tensor | float, labels: Tensor, alpha: float, beta: float
) -> Mean:
    """The mean over rows of T² (alpha TCKD + beta NCKD), and of T² KL for rows without a label; equation 7.

    Args:
        student: logits, (rows, classes), of at least two classes.
        teacher: likewise; it gets no gradient.
        temperature: T, a number or (rows,).
        labels: class indices, (rows,); -100 for a row without one.
        alpha: weight of the target classes' part.
        beta: weight of the other classes' part.
    """
    assert student.shape == teacher.shape, f"logits of shapes {tuple(student.shape)} and {tuple(teacher.shape)}"
    assert student.shape[:-1] == labels.shape, f"labels of shape {tuple(labels.shape)} for {len(student)} rows"
    column = temperature[:, None] if isinstance(temperature, Tensor) and temperature.ndim else temperature
    s, t = _widened(student) / column, _widened(teacher.detach()) / column
    labelled = labels != UNLABELLED
    # Class 0 is a placeholder for a missing label; its result is replaced below.
    target = torch.where(labelled, labels, 0)
    parts = alpha * tckd(s, t, target) + beta * nckd(s, t, target)
    rows = torch.where(labelled, parts, _kl(s.log_softmax(-1), t.log_softmax(-1)))
    squared = temperature**2
    return Mean((rows * squared).sum(), float(len(rows)), "labels")


def tckd(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """KL(b_teacher ‖ b_student), (rows,), of b = (p_target, 1 - p_target), p = softmax(logits); equation 5."""
    return _kl(_log_binary(student, target), _log_binary(teacher, target))


def nckd(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """KL(p_teacher ‖ p_student), (rows,), of p = softmax(logits without the target's); equation 5."""
    return _kl(_others(student, target).log_softmax(-1), _others(teacher, target).log_softmax(-1))


def _kl(log_q: Tensor, log_p: Tensor) -> Tensor:
    p = log_p.exp()
    # 0 log 0 is 0: a class that the teacher rules out contributes nothing.
    return (p * torch.where(p > 0, log_p - log_q, 0.0)).sum(-1)


def _log_binary(logits: Tensor, target: Tensor) -> Tensor:
    """The logarithms of the probability of the target and of all others together, (rows, 2)."""
    # Not log(1 - p), which is -inf as soon as p rounds to 1.
    pair = torch.stack([logits.gather(-1, target[:, None])[:, 0], _others(logits, target).logsumexp(-1)], -1)
    return pair.log_softmax(-1)


def _others(logits: Tensor, target: Tensor) -> Tensor:
    """The logits without the target's, (rows, classes - 1)."""
    index = torch.arange(logits.shape[-1] - 1, device=logits.device).expand(len(logits), -1)
    return logits.gather(-1, index + (index >= target[:, None]))


def _widened(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
