"""Losses between self-attention relations: the similarities of a layer's queries, keys or values.

Vectors are (batch, length, width), before or after the split into heads. A mask, (batch, length), is not 0 for non-padding
tokens; it applies to queries and keys. Values at padding change neither value nor gradient. Gradients go to the student
only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdspec.ops import masks
from kdspec.ops.features import TensorPair
from kdspec.ops.mean import Mean
from kdspec.ops.precision import full, widened


def relation(student: TensorPair, teacher: TensorPair, mask: Tensor | None = None, *, heads: int) -> Mean:
    """The mean over heads and queries of KL(R_teacher ‖ R_student), R = softmax(X Yᵀ / √d) over the kept keys.

    X and Y are a pair of one model: the same vectors twice for a relation such as (values, values), or queries and keys
    for the attention itself. Each is split into `heads` heads of width d. This is the number of relation heads: the two
    models may differ in width and in their number of attention heads.

    Wang et al. 2020, "MiniLM", equation 9 (values), and Wang et al. 2021, "MiniLMv2", equation 5.
    """
    log_q, log_p = _log_relation(student, mask, heads), _log_relation(_detached(teacher), mask, heads)
    assert log_q.shape == log_p.shape, (
        f"a student's relations of shape {tuple(log_q.shape)}, a teacher's of shape {tuple(log_p.shape)}"
    )
    parts = log_p.exp() * (log_p - log_q)
    if mask is not None:
        kept = (mask != 0)[:, None, :, None]
        parts = torch.where(kept & kept.mT, parts, 0.0)
    batch, _, length, _ = parts.shape
    return Mean(parts.sum() / heads, masks.tokens(mask, batch, length), "tokens")


def _log_relation(pair: TensorPair, mask: Tensor | None, heads: int) -> Tensor:
    first, second = (_split(masks.filled(widened(vectors), mask), heads) for vectors in pair)
    with full(first):
        scores = first @ second.mT / first.shape[-1] ** 0.5
    if mask is not None:
        # Not -inf: the softmax of a row that is masked throughout would be NaN, also in the gradient.
        scores = torch.where((mask != 0)[:, None, None, :], scores, torch.finfo(scores.dtype).min)
    logarithms: Tensor = scores.log_softmax(-1)
    return logarithms


def _split(vectors: Tensor, heads: int) -> Tensor:
    """(batch, length, width) to (batch, heads, length, width / heads)."""
    assert vectors.ndim == 3, f"vectors are (batch, length, width), not {tuple(vectors.shape)}"
    assert vectors.shape[-1] % heads == 0, f"a width of {vectors.shape[-1]} cannot be split into {heads} heads"
    return vectors.reshape(*vectors.shape[:2], heads, -1).transpose(1, 2)


def _detached(pair: TensorPair) -> TensorPair:
    return pair[0].detach(), pair[1].detach()
