"""Losses between hidden states, (batch, length, width), of student and teacher.

A mask, (batch, length), says which positions count; without one all do. What is at the others, even inf or nan, changes
neither value nor gradient. Gradients go to the student only. A pair is the hidden states of two layers of one model.

Where a function takes `lengths`, hidden states may be packed as well, (tokens, width): only the positions that count,
row after row, `lengths` of them in each. The value is the same up to rounding.
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

# torch's cosine_embedding_loss has the same constant; a vector of zeros gets a direction of zeros and not nan
EPSILON = 1e-12


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

    Sanh et al. 2019, "DistilBERT", section 2.
    """
    _assert_same(student, teacher)
    cosines = (_direction(student, mask) * _direction(teacher.detach(), mask)).sum(-1)
    return Mean(masks.filled(1 - cosines, mask).sum(), _tokens(student, mask, lengths), "tokens")


def pkd(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Mean:
    """The mean over rows of ‖s/‖s‖ - t/‖t‖‖², s and t being the first kept token of a row: [CLS].

    A sum over the width, so it is 2 - 2 cos. Also takes (batch, width), which is that token already, of both or of the
    teacher alone. A row of which nothing is kept contributes 0. Norms are √(‖x‖² + 1e-12), so a vector of zeros gives no nan.

    Sun et al. 2019, "Patient Knowledge Distillation for BERT Model Compression", equation 7.
    """
    student, teacher = first_token(student, mask), first_token(teacher.detach(), mask)
    _assert_same(student, teacher)
    return Mean((_direction(student) - _direction(teacher)).square().sum(), float(len(student)), "rows")


def fsp(student: TensorPair, teacher: TensorPair, mask: Tensor | None = None) -> Mean:
    """The mean over rows and matrix elements of (G_student - G_teacher)², G = Xᵀ Y / tokens.

    X and Y are the two layers of a model: G, (first width, second width), is the flow between them. Both models have
    the same two widths. `tokens` is the number of kept positions of the row; a row without any contributes 0.

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

    X and Y are the two layers of a model (often the same one): G, (length, length), is how similar its tokens are.
    The widths of student and teacher may differ, so no projection is needed. Of the teacher also takes G itself, as
    `similarity` gives it.

    With the `scale` "length" a masked G is divided by the padded length in place of the width, and so depends on the
    padding: TextBrewer's releases of 2020 do so, and published results come from them.

    Huang and Wang 2017, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", section 4.
    """
    if lengths is not None:
        assert scale == "width", "packed tokens have no padded length"
        assert not isinstance(teacher, Tensor), "similarities are of whole rows"
        return _packed_mmd(student, _detached(teacher), list(lengths))
    mine = _similarity(student, mask, scale)
    if isinstance(teacher, Tensor):
        theirs = masks.filled(masks.filled(widened(teacher.detach()), mask).mT, mask).mT
    else:
        theirs = _similarity(_detached(teacher), mask, scale)
    _assert_same(mine, theirs)
    batch, length, _ = mine.shape
    return Mean((mine - theirs).square().sum(), masks.pairs(mask, batch, length), "pairs")


def similarity(pair: TensorPair) -> Tensor:
    """How alike the tokens of a layer, or of two, are: G = X Yᵀ / width, (batch, length, length)."""
    return _similarity(pair, None, "width")


def _packed_mmd(student: TensorPair, teacher: TensorPair, lengths: list[int]) -> Mean:
    """Row by row, so that no product is of tokens of two rows, or of padding."""
    pairs = zip(_grams(student, lengths), _grams(teacher, lengths), strict=True)
    total = torch.stack([(mine - theirs).square().sum() for mine, theirs in pairs]).sum()
    return Mean(total, float(sum(length**2 for length in lengths)), "pairs")


def _grams(pair: TensorPair, lengths: list[int]) -> list[Tensor]:
    first = torch.split(widened(pair[0]), lengths)
    second = first if pair[1] is pair[0] else torch.split(widened(pair[1]), lengths)
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
    return first, first if pair[1] is pair[0] else pair[1].detach()


def _direction(vectors: Tensor, mask: Tensor | None = None) -> Tensor:
    vectors = masks.filled(widened(vectors), mask)
    return vectors * (vectors.square().sum(-1, keepdim=True) + EPSILON).rsqrt()


def first_token(hidden: Tensor, mask: Tensor | None = None) -> Tensor:
    """The first kept token of each row, (batch, width), zeros where there is none; what has no tokens is that already."""
    if hidden.ndim == 2:
        return hidden
    if mask is None:
        return hidden[:, 0]
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
