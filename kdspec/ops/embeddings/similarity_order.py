"""Losses that compare the order of similarities: of all pairs of rows, by student and by teacher.

Rows are embeddings, (rows, width). The similarity of a pair of rows is the cosine, and every two pairs are compared with
each other: some rows⁴ / 8 comparisons. They are not made one by one. Sorted by the teacher's similarity and then by the
student's, time is about linear in the number of pairs, and memory is that of the pairs.

The teacher's similarities are compared in steps of 2⁻¹⁶, so that rounding orders nothing: equal texts in different
micro-batches have vectors that differ in their last digits. Gradients go to the student only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdspec.ops.embeddings.losses import cosines

STEP = 2.0**-16
"""The smallest difference of the teacher's similarities that is an order."""


def triplet_order(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """The mean over ordered pairs of pairs of max(0, s_b - s_a + margin), the teacher's similarity of a above that of b.

    s are the student's cosines. 0 if the teacher's are all equal, as those of up to two rows are.

    Zhang et al. 2024, "Jasper and Stella", section 3.2.
    """
    mine, theirs = _pairs(student, teacher)
    # The loss is linear in s where no comparison changes its side: s_b is added once for every a that is not the margin
    # above it, and s_a subtracted once for every such b. Only these two numbers are counted.
    added, subtracted, compared = _violations(mine.detach(), theirs, margin)
    total = ((added - subtracted) * mine.double()).sum() + margin * added.sum()
    return (total / compared.clamp_min(1)).to(mine.dtype)


def cosent(student: Tensor, teacher: Tensor, scale: float) -> Tensor:
    """log(1 + Σ exp(scale · (s_b - s_a))) over ordered pairs of pairs, the teacher's similarity of a above that of b.

    s are the student's cosines.

    Huang et al. 2024, "CoSENT: Consistent Sentence Embedding via Similarity Ranking", equation 6.
    """
    mine, theirs = _pairs(student, teacher)
    theirs, order = theirs.sort()
    scores = scale * mine[order]
    # For each b, the logarithm of the sum of exp(-scale · s_a) over all a that the teacher places above it.
    above = scores.neg().flip(0).logcumsumexp(0).flip(0)
    first = torch.searchsorted(theirs, theirs, right=True)
    none = first == len(theirs)
    terms = scores + above.index_select(0, first.clamp_max(max(len(theirs) - 1, 0)))
    terms = torch.where(none, -torch.inf, terms)
    return torch.cat([terms.new_zeros(1), terms]).logsumexp(0)


def _pairs(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """The similarities of all pairs of different rows: the student's, and the teacher's as numbers of steps, (pairs,)."""
    rows = len(student)
    first, second = torch.triu_indices(rows, rows, 1, device=student.device)
    theirs = (cosines(teacher.detach().double())[first, second] / STEP).round()
    return cosines(student)[first, second], theirs


def _violations(mine: Tensor, theirs: Tensor, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    """For each pair how often it is a b with a violation and an a with one, in float64, and the number of comparisons.

    A merge sort by the teacher's similarity: two sorted halves of a block are compared by binary search in the student's
    similarities. Pairs that are equal by the teacher come after each other, the largest of the student first; all their
    comparisons are counted then, and are subtracted at the end.
    """
    mine = mine.double()
    count = len(mine)
    by_student = mine.argsort(descending=True, stable=True)
    order = by_student[theirs[by_student].argsort(stable=True)]
    mine, theirs = mine[order], theirs[order]
    size = 1
    while size < max(count, 1):
        size *= 2
    # Padding comes last, so that it is only ever an a; an infinite one has no violation.
    low = torch.cat([mine, mine.new_full((size - count,), torch.inf)])
    limits = torch.cat([mine + margin, mine.new_full((size - count,), torch.inf)])
    added, subtracted = torch.zeros_like(low), torch.zeros_like(low)
    half = 1
    while half < size:
        blocks = low.reshape(-1, 2, half)
        bounds = limits.reshape(-1, 2, half)[:, 0].contiguous()
        above = blocks[:, 1].contiguous()
        # b is in the first half and a in the second: s_a < s_b + margin.
        found = torch.searchsorted(above.sort(-1).values, bounds)
        added.reshape(-1, 2, half)[:, 0] += found
        found = half - torch.searchsorted(bounds.sort(-1).values, above, right=True)
        subtracted.reshape(-1, 2, half)[:, 1] += found
        half *= 2
    place = torch.arange(count, device=mine.device)
    start, end = torch.searchsorted(theirs, theirs), torch.searchsorted(theirs, theirs, right=True)
    added, subtracted = added[:count] - (end - 1 - place), subtracted[:count] - (place - start)
    compared = (count - end).double().sum()
    back = order.argsort()
    return added[back], subtracted[back], compared
