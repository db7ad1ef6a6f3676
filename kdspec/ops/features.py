"""Losses between hidden states, (batch, length, width), of student and teacher.

A mask, (batch, length), is not 0 for non-padding tokens; without one there is no padding. Values at padding, even Inf or
NaN, change neither value nor gradient. Gradients go to the student only. A pair is the hidden states of two layers of one
model.

Functions with `lengths` also take packed hidden states, (tokens, width): the non-padding tokens only, row after row, with
`lengths` tokens in each row. The value is the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from kdspec.ops import masks
from kdspec.ops.mean import Mean
from kdspec.ops.precision import full, widened

TensorPair = tuple[Tensor, Tensor]

EPSILON = 1e-12
"""Added to squared norms, as in torch's cosine_embedding_loss: a vector of zeros has a direction of zeros, not NaN."""


def hidden_mse(
    student: Tensor, teacher: Tensor, mask: Tensor | None = None, lengths: Sequence[int] | None = None
) -> Mean:
    """The mean over tokens and width of (student - teacher)².

    Romero et al. 2015, "FitNets", equation 3; Jiao et al. 2020, "TinyBERT", equation 8.
    """
    _assert_same(student, teacher)
    difference = masks.filled(widened(student) - widened(teacher.detach()), mask)
    return Mean(difference.square().sum() / student.shape[-1], _tokens(student, mask, lengths), "tokens")


def cosine(student: Tensor, teacher: Tensor, mask: Tensor | None = None, lengths: Sequence[int] | None = None) -> Mean:
    """The mean over tokens of 1 - cos(student, teacher); 1 where one of the two is zero.

    One vector a row, (batch, width) without `lengths`, gives the mean over rows; there is no padding, and `mask` is ignored.

    Sanh et al. 2019, "DistilBERT", section 2.
    """
    _assert_same(student, teacher)
    if student.ndim == 2 and lengths is None:
        cosines = (direction(student) * direction(teacher.detach())).sum(-1)
        return Mean((1 - cosines).sum(), float(len(student)), "rows")
    cosines = (direction(student, mask) * direction(teacher.detach(), mask)).sum(-1)
    return Mean(masks.filled(1 - cosines, mask).sum(), _tokens(student, mask, lengths), "tokens")


def pkd(
    student: Tensor, teacher: Tensor, mask: Tensor | None = None, *, reduction: Literal["sum", "mean"] = "sum"
) -> Mean:
    """The mean over rows of ‖s/‖s‖ - t/‖t‖‖², s and t being the first kept token of a row: [CLS].

    The sum over the width equals 2 - 2 cos. With the reduction `mean` it is divided by the width, as in the authors' code.
    Both models, or the teacher alone, may also have (batch, width): the token's
    state itself. A row that is all padding contributes 0. Norms are √(‖x‖² + 1e-12), so a vector of zeros does not give NaN.

    Sun et al. 2019, "Patient Knowledge Distillation for BERT Model Compression", equation 7.
    """
    student, teacher = first_token(student, mask), first_token(teacher.detach(), mask)
    _assert_same(student, teacher)
    total = (direction(student) - direction(teacher)).square().sum()
    return Mean(total if reduction == "sum" else total / student.shape[-1], float(len(student)), "rows")


def fsp(student: TensorPair, teacher: TensorPair, mask: Tensor | None = None) -> Mean:
    """The mean over rows and matrix elements of (G_student - G_teacher)², G = Xᵀ Y / tokens.

    X and Y are the two layers of a model: G, (first width, second width), is the flow between them. Both models have
    the same two widths. `tokens` is the number of non-padding tokens of the row; a row without any contributes 0.

    Yim et al. 2017, "A Gift from Knowledge Distillation", equations 1 and 2.
    """
    flow = _flow(student, mask)
    target = _flow(_detached(teacher), mask)
    _assert_same(flow, target)
    return Mean((flow - target).square().sum() / flow[0].numel(), float(len(flow)), "rows")


def mmd(
    student: TensorPair,
    teacher: TensorPair | Tensor,
    mask: Tensor | None = None,
    scale: Literal["width", "length"] = "width",
    lengths: Sequence[int] | None = None,
) -> Mean:
    """The mean over pairs of tokens of (G_student - G_teacher)², G = X Yᵀ / width.

    X and Y are the two layers of a model (often the same one): G, (length, length), is the similarity of its tokens.
    The widths of student and teacher may differ, so no projection is needed. The teacher's G, from `similarity`, is also
    accepted in place of its layers.

    With the `scale` "length" a masked G is divided by the padded length instead of the width, and so depends on the
    padding, as in TextBrewer's releases of 2020, which produced the published results.

    Huang and Wang 2017, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", section 4.
    """
    if lengths is not None:
        assert scale == "width", "packed tokens have no padded length"
        assert not isinstance(teacher, Tensor), "similarities are of whole rows"
        return _packed_mmd(student, _detached(teacher), list(lengths))
    mine = _similarity(student, mask, scale)
    if isinstance(teacher, Tensor):
        # A cached similarity has not been masked: clear the rows of padding, then its columns.
        theirs = masks.filled(masks.filled(widened(teacher.detach()), mask).mT, mask).mT
    else:
        theirs = _similarity(_detached(teacher), mask, scale)
    _assert_same(mine, theirs)
    batch, length, _ = mine.shape
    return Mean((mine - theirs).square().sum(), masks.pairs(mask, batch, length), "pairs")


def similarity(pair: TensorPair) -> Tensor:
    """The similarity of the tokens of one or two layers: G = X Yᵀ / width, (batch, length, length)."""
    return _similarity(pair, None, "width")


def _packed_mmd(student: TensorPair, teacher: TensorPair, lengths: list[int]) -> Mean:
    """Row by row: products of tokens of different rows, or of padding, are not computed."""
    pairs = zip(_grams(student, lengths), _grams(teacher, lengths), strict=True)
    total = torch.stack([(mine - theirs).square().sum() for mine, theirs in pairs]).sum()
    return Mean(total, float(sum(length**2 for length in lengths)), "pairs")


def _grams(pair: TensorPair, lengths: list[int]) -> list[Tensor]:
    first = torch.split(widened(pair[0]), lengths)
    second = first if pair[1] is pair[0] else torch.split(widened(pair[1]), lengths)
    # Autocast would compute this product in bf16, which keeps two to three digits.
    with full(pair[0]):
        return [one @ other.mT / other.shape[-1] for one, other in zip(first, second, strict=True)]


def _tokens(states: Tensor, mask: Tensor | None, lengths: Sequence[int] | None) -> Tensor | float:
    return float(sum(lengths)) if lengths is not None else masks.tokens(mask, states.shape[0], states.shape[1])


def _assert_same(student: Tensor, teacher: Tensor) -> None:
    assert student.shape == teacher.shape, (
        f"a student's features of shape {tuple(student.shape)}, a teacher's of shape {tuple(teacher.shape)}"
    )


def _detached(pair: TensorPair) -> TensorPair:
    first = pair[0].detach()
    # One object where both layers are the same: callers test `is` to mask, widen and split it once.
    return first, first if pair[1] is pair[0] else pair[1].detach()


def direction(vectors: Tensor, mask: Tensor | None = None) -> Tensor:
    """Vectors of length 1, (..., width), in float32 or float64; zeros for a vector of zeros."""
    # Padding is cleared first: Inf there has the direction Inf · 0. EPSILON is inside the root, so that zeros have a
    # finite gradient too.
    vectors = masks.filled(widened(vectors), mask)
    return vectors * (vectors.square().sum(-1, keepdim=True) + EPSILON).rsqrt()


def first_token(hidden: Tensor, mask: Tensor | None = None) -> Tensor:
    """The first non-padding token of each row, (batch, width); zeros for a row without any. (batch, width) is returned as
    it is.
    """
    if hidden.ndim == 2:
        return hidden
    if mask is None:
        return hidden[:, 0]
    # argmax gives the first maximum; padding may be on the left.
    position = (mask != 0).long().argmax(-1)
    chosen = masks.filled(hidden, mask).gather(1, position[:, None, None].expand(-1, 1, hidden.shape[-1]))
    return chosen.squeeze(1)


def _flow(pair: TensorPair, mask: Tensor | None) -> Tensor:
    first, second = (masks.filled(widened(layer), mask) for layer in pair)
    with full(first):
        product = first.transpose(1, 2) @ second
    if mask is None:
        return product / first.shape[1]
    return product / (mask != 0).sum(-1).clamp_min(1)[:, None, None]


def _similarity(pair: TensorPair, mask: Tensor | None, scale: Literal["width", "length"]) -> Tensor:
    first = masks.filled(widened(pair[0]), mask)
    second = first if pair[1] is pair[0] else masks.filled(widened(pair[1]), mask)
    divisor = first.shape[1] if scale == "length" and mask is not None else second.shape[2]
    with full(first):
        return first @ second.transpose(1, 2) / divisor
