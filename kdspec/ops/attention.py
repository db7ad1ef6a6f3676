"""Losses between attention maps, (batch, heads, length, length) with queries before keys, of student and teacher.

Maps are probabilities, as transformers returns them: a row sums to 1. A mask, (batch, length), is not 0 for non-padding
tokens; it applies to queries and keys. Values at padding change neither value nor gradient, with the exceptions that
`attention_ce` names. Gradients go to the student only.

TextBrewer's losses were written for scores, the values before the softmax, with large negative scores at masked keys.
`clip_negative` gives its results: without a mask, scores up to -1e-3 are treated as masked. With a mask it clips nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdspec.ops import masks
from kdspec.ops.mean import Mean
from kdspec.ops.precision import widened

CLIPPED = -1e-3
"""TextBrewer's bound: attention scores at most this large are masked."""
FLOOR = 1e-12
"""The smallest probability whose logarithm is taken."""


def attention_mse(student: Tensor, teacher: Tensor, mask: Tensor | None = None, *, clip_negative: bool = False) -> Mean:
    """The mean over heads and pairs of tokens of (student - teacher)².

    Jiao et al. 2020, "TinyBERT", equation 7.
    """
    _assert_heads(student, teacher)
    return _mse(_heads(student), _heads(teacher.detach()), mask, clip_negative=clip_negative)


def attention_mse_sum(
    student: Tensor, teacher: Tensor, mask: Tensor | None = None, *, clip_negative: bool = False
) -> Mean:
    """The mean over pairs of tokens of (Σ_heads student - Σ_heads teacher)²; grows with the number of heads.

    Also takes maps that are already summed over heads, (batch, length, length).

    Yang et al. 2020, "TextBrewer".
    """
    student, teacher = (_heads(maps).sum(1, keepdim=True) for maps in (student, teacher.detach()))
    return _mse(student, teacher, mask, clip_negative=clip_negative)


def attention_ce(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor | None = None,
    *,
    from_scores: bool = False,
    clip_negative: bool = False,
) -> Mean:
    """The mean over heads and queries of the cross-entropy over keys, -Σ_k p_k log q_k.

    p and q are the maps of teacher and student, each scaled to sum to 1 over the kept keys. Probabilities of the student
    below 1e-12 are raised to 1e-12 before the logarithm, since dropout sets some to 0. (In float16 to 6e-5, the smallest
    normal number, because the gradient is as large as the inverse.)

    With `from_scores`, p and q are the softmax of the maps over *all* keys, and p is then set to 0 at masked keys
    (TextBrewer). Masked keys must therefore have large negative scores in both models to be without effect.
    `clip_negative` applies to scores only.

    Sun et al. 2020, "MobileBERT", section 3.2 (as a KL divergence, which has the same gradient).
    """
    _assert_heads(student, teacher)
    maps = _heads(student), _heads(teacher.detach())
    if from_scores:
        return _ce_of_scores(*maps, mask, clip_negative=clip_negative)
    return _ce(*maps, mask, _floor(student))


def attention_ce_mean(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor | None = None,
    *,
    from_scores: bool = False,
    clip_negative: bool = False,
) -> Mean:
    """`attention_ce` of the means over heads; the numbers of heads may differ.

    Also takes maps that are already averaged over heads, (batch, length, length).

    Yang et al. 2020, "TextBrewer".
    """
    maps = _heads(student).mean(1, keepdim=True), _heads(teacher.detach()).mean(1, keepdim=True)
    if from_scores:
        return _ce_of_scores(*maps, mask, clip_negative=clip_negative)
    return _ce(*maps, mask, _floor(student))


def _assert_heads(student: Tensor, teacher: Tensor) -> None:
    for maps in (student, teacher):
        assert maps.ndim == 4, f"attention maps are (batch, heads, length, length), not {tuple(maps.shape)}"
    assert student.shape[1] == teacher.shape[1], (
        f"a student of {student.shape[1]} heads, a teacher of {teacher.shape[1]}"
    )


def _heads(maps: Tensor) -> Tensor:
    """The maps, widened and with an axis of heads."""
    assert maps.ndim in (3, 4), (
        f"attention maps are (batch, heads, length, length) or (batch, length, length), not {tuple(maps.shape)}"
    )
    return widened(maps if maps.ndim == 4 else maps[:, None])


def _floor(student: Tensor) -> float:
    # The floor of the maps' own type: the gradient, 1 / floor, has to fit into float16 as well.
    return max(torch.finfo(student.dtype).tiny, FLOOR)


def _kept(mask: Tensor | None, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor] | None:
    """Masks of the kept queries, (batch, 1, length, 1), and of the kept pairs, (batch, 1, length, length)."""
    assert student.shape == teacher.shape, (
        f"a student's attention of shape {tuple(student.shape)}, a teacher's of shape {tuple(teacher.shape)}"
    )
    if mask is None:
        return None
    assert mask.shape == (student.shape[0], student.shape[-1]), (
        f"a mask of shape {tuple(mask.shape)} does not fit attention of shape {tuple(student.shape)}"
    )
    queries = (mask != 0)[:, None, :, None]
    return queries, queries & queries.mT


def _clipped(scores: Tensor, values: Tensor) -> Tensor:
    return torch.where(scores <= CLIPPED, 0.0, values)


def _mse(student: Tensor, teacher: Tensor, mask: Tensor | None, *, clip_negative: bool) -> Mean:
    kept = _kept(mask, student, teacher)
    if clip_negative and kept is None:
        student, teacher = _clipped(student, student), _clipped(teacher, teacher)
    difference = student - teacher
    if kept is not None:
        # A selection, not a product: NaN or Inf at padding times 0 is NaN.
        difference = torch.where(kept[1], difference, 0.0)
    batch, heads, length, _ = student.shape
    return Mean(difference.square().sum() / heads, masks.pairs(mask, batch, length), "pairs")


def _ce(student: Tensor, teacher: Tensor, mask: Tensor | None, floor: float) -> Mean:
    kept = _kept(mask, student, teacher)
    if kept is not None:
        student, teacher = torch.where(kept[1], student, 0.0), torch.where(kept[1], teacher, 0.0)
    # A query whose keys are all masked has the sum 0: the floors avoid 0 / 0 and log 0.
    p = teacher / teacher.sum(-1, keepdim=True).clamp_min(floor)
    log_q = student.clamp_min(floor).log() - student.sum(-1, keepdim=True).clamp_min(floor).log()
    return _over_queries(p * log_q, mask)


def _ce_of_scores(student: Tensor, teacher: Tensor, mask: Tensor | None, *, clip_negative: bool) -> Mean:
    kept = _kept(mask, student, teacher)
    if kept is not None:
        # Rows of padding queries may be -inf throughout, and their softmax NaN: zeros before the softmax keep the
        # gradient finite too. Their terms are removed by p = 0.
        queries, pairs = kept
        student, teacher = torch.where(queries, student, 0.0), torch.where(queries, teacher, 0.0)
        p = torch.where(pairs, teacher.softmax(-1), 0.0)
    else:
        p = teacher.softmax(-1)
        if clip_negative:
            p = _clipped(teacher, p)
    # 0 log 0 is 0: where a score is -inf, p is 0 and log q is -inf, and their product would be NaN.
    return _over_queries(p * torch.where(p > 0, student.log_softmax(-1), 0.0), mask)


def _over_queries(parts: Tensor, mask: Tensor | None) -> Mean:
    batch, heads, length, _ = parts.shape
    return Mean(-parts.sum() / heads, masks.tokens(mask, batch, length), "tokens")
