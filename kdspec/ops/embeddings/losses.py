"""Losses between embeddings, (rows, width), of student and teacher: one vector a row.

Gradients go to the student only. Half-precision vectors are widened to float32, also under autocast. A vector of zeros has
a direction of zeros: its cosine with any other is 0, and neither value nor gradient is NaN.

Losses that compare rows with each other return a scalar; their value is that of exactly the rows given. Of a single row
they are 0, with a gradient of zeros.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from kdspec.ops.features import direction
from kdspec.ops.mean import Mean
from kdspec.ops.precision import full, widened


def embedding_mse(student: Tensor, teacher: Tensor, over: Literal["rows", "elements"] = "rows") -> Mean:
    """The mean over rows of ‖student - teacher‖²; over elements it is divided by the width too.

    Reimers and Gurevych 2020, "Making Monolingual Sentence Embeddings Multilingual using Knowledge Distillation".
    """
    _assert_vectors(student, teacher, same_width=True)
    total = (widened(student) - widened(teacher.detach())).square().sum()
    return Mean(total if over == "rows" else total / student.shape[-1], float(len(student)), "rows")


def embedding_l2(student: Tensor, teacher: Tensor) -> Mean:
    """The mean over rows of ‖student - teacher‖; where the two agree, with a gradient of zeros.

    Kim et al. 2023, "EmbedDistill", equations 7 and 8.
    """
    _assert_vectors(student, teacher, same_width=True)
    distances = torch.linalg.vector_norm(widened(student) - widened(teacher.detach()), dim=-1)
    return Mean(distances.sum(), float(len(student)), "rows")


def similarity_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean over all pairs of rows of (S_student - S_teacher)², S the cosines of the rows.

    The pairs of a row with itself, whose cosines are 1, are among the rows² pairs.

    Zhang et al. 2024, "Jasper and Stella", section 3.2.
    """
    _assert_vectors(student, teacher)
    return (cosines(student) - cosines(teacher.detach())).square().mean()


def similarity_kl(student: Tensor, teacher: Tensor, temperature: float, *, diagonal: bool = False) -> Tensor:
    """The mean over rows of KL(P_teacher ‖ P_student) · max(1, T²), P = softmax over the other rows of cosines / T.

    With `diagonal` each row is compared with itself too, whose cosine is 1 in both models.

    Fang et al. 2021, "SEED: Self-supervised Distillation For Visual Representation", equation 4.
    """
    _assert_vectors(student, teacher)
    log_q, log_p = (_relations(vectors, temperature, diagonal=diagonal) for vectors in (student, teacher.detach()))
    # Of a single row there are no others: sums over nothing are 0, a mean over nothing would be NaN.
    return (log_p.exp() * (log_p - log_q)).sum() / max(len(student), 1) * max(1.0, temperature**2)


def contrastive(
    student: Tensor,
    teacher: Tensor,
    temperature: float,
    earlier: Tensor | None = None,
    valid: Tensor | None = None,
) -> Tensor:
    """The mean over rows of -log softmax_j(cos(student_i, teacher_j) / T) at j = i.

    Args:
        student: (rows, width).
        teacher: (rows, width), the vectors of the same rows.
        temperature: T.
        earlier: (others, width), further vectors of the teacher as negatives.
        valid: (others,), False for vectors that are left out.

    Gao et al. 2021, "DistilCSE: Effective Knowledge Distillation For Contrastive Sentence Embeddings", section 3.2.
    """
    _assert_vectors(student, teacher, same_width=True)
    mine, theirs = direction(student), direction(teacher.detach())
    with full(mine):
        logits = mine @ theirs.mT
        if earlier is not None:
            others = mine @ earlier.detach().to(mine.dtype).mT
            others = others if valid is None else torch.where(valid, others, -torch.inf)
            logits = torch.cat([logits, others], dim=1)
    return functional.cross_entropy(logits / temperature, torch.arange(len(student), device=student.device))


def cosines(vectors: Tensor) -> Tensor:
    """The cosines of all rows with each other, (rows, rows), in float32 or float64."""
    directions = direction(vectors)
    with full(directions):
        return directions @ directions.mT


def _relations(vectors: Tensor, temperature: float, *, diagonal: bool) -> Tensor:
    scores = cosines(vectors) / temperature
    rows = len(scores)
    if not diagonal and rows:
        # In the flat matrix the diagonal is every (rows + 1)-th element, beginning with the first.
        scores = scores.flatten()[1:].reshape(rows - 1, rows + 1)[:, :-1].reshape(rows, rows - 1)
    return scores.log_softmax(-1)


def _assert_vectors(student: Tensor, teacher: Tensor, *, same_width: bool = False) -> None:
    shapes = f"a student's vectors of shape {tuple(student.shape)}, a teacher's of shape {tuple(teacher.shape)}"
    assert student.ndim == teacher.ndim == 2, f"embeddings are (rows, width): {shapes}"
    assert len(student) == len(teacher), shapes
    assert not same_width or student.shape == teacher.shape, shapes
