"""Probability shift: corrects a teacher's wrong predictions."""

from __future__ import annotations

import torch
from torch import Tensor


def probability_shift(teacher: Tensor, labels: Tensor) -> Tensor:
    """The teacher's logits, (..., classes), with the largest logit of each row and that of its label, (...), exchanged.

    The label becomes the most probable class, and a row keeps its set of values. A row with a negative label is
    unchanged. The result is a new tensor.

    Wen et al. 2019, "Preparing Lessons: Improve Knowledge Distillation with Better Supervision", section 3.2.
    """
    assert teacher.shape[:-1] == labels.shape, (
        f"logits of shape {tuple(teacher.shape)} and labels of shape {tuple(labels.shape)} do not go together"
    )
    top = teacher.argmax(-1, keepdim=True)
    # gather needs valid indices: a row without a label exchanges its largest value with itself.
    label = torch.where(labels[..., None] < 0, top, labels[..., None])
    return teacher.scatter(-1, top, teacher.gather(-1, label)).scatter(-1, label, teacher.gather(-1, top))
