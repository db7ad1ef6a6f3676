"""The rows that teachers have answered, by the teachers that have, and a loss over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kdspec.api.working.step import Features
from kdspec.ops.masks import select
from kdspec.ops.mean import Mean

Group = tuple[tuple[str, ...], Tensor]
"""Teachers, and the mask of the rows that they and no others have answered, `(rows,)`."""
Part = tuple[str, Tensor | Mean, float]
"""The suffix of the name of a loss, the loss, and the share of its teacher in the weight."""


def by_teachers(teachers: Mapping[str, Features]) -> list[Group] | None:
    """The groups of rows; None if no teacher can lack an answer. Rows without any answer are in none.

    Several teachers of which some lack answers synchronise a GPU. If there is no answer at all, all teachers have no rows.
    """
    given = {name: _mask(features) for name, features in teachers.items()}
    known = [mask for mask in given.values() if mask is not None]
    if not known:
        return None
    names = tuple(given)
    if len(names) == 1:
        return [(names, known[0])]
    every = torch.ones_like(known[0])
    masks = [every if mask is None else mask for mask in given.values()]
    codes = sum((mask.long() << place for place, mask in enumerate(masks)), torch.zeros_like(every, dtype=torch.long))
    found = sorted(code for code in set(codes.tolist()) if code)
    if not found:
        return [(names, codes > 0)]
    return [(tuple(n for place, n in enumerate(names) if code >> place & 1), codes == code) for code in found]


def per_answer(loss: Tensor | Mean) -> Tensor | Mean:
    """The loss over answered rows: the others do not count in its mean."""
    return replace(loss, per="answered") if isinstance(loss, Mean) and loss.per in ("rows", "labels") else loss


def over_groups(parts: Sequence[Sequence[Part]], rows: Sequence[Tensor], shares: Mapping[str, float]) -> list[Part]:
    """The losses over the rows of all groups.

    Args:
        parts: the losses of each group.
        rows: the masks of their rows.
        shares: the share of each suffix if all teachers have answered; 1 for others.
    """
    totals: dict[str, Tensor] = {}
    counts = [_mean(part[0][1], mask).count for part, mask in zip(parts, rows, strict=True)]
    per = {suffix: _mean(loss, mask).per for part, mask in zip(parts, rows, strict=True) for suffix, loss, _ in part}
    for part, mask in zip(parts, rows, strict=True):
        for suffix, loss, share in part:
            total = _mean(loss, mask).total * (share / shares.get(suffix, 1.0))
            totals[suffix] = total if suffix not in totals else totals[suffix] + total
    count = sum(counts[1:], counts[0])
    return [(suffix, Mean(total, count, per[suffix]), shares.get(suffix, 1.0)) for suffix, total in totals.items()]


def _mean(loss: Tensor | Mean, rows: Tensor) -> Mean:
    if isinstance(loss, Mean):
        return loss
    number = rows.sum().to(loss.dtype)
    return Mean(loss * number, number, "answered")


def _mask(features: Features) -> Tensor | None:
    """The mask of the answered rows, or of the answered ones among the positions that `logits_mask` keeps."""
    masks = [mask != 0 for mask in features.heads("answered")]
    if not masks:
        return None
    answered = torch.stack(masks).all(0)
    kept = features.heads("logits_mask")
    return select(answered, kept[0]) if answered.ndim > 1 and kept and kept[0].shape == answered.shape else answered
