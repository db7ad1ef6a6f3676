"""Losses between the scores of candidates: of a student and a teacher for the candidates of a query.

Scores have shape (..., candidates): each leading place is one query, and all of them count alike. A candidate that the
teacher gives -inf is not there, as padding to the longest row of a batch: it changes neither value nor gradient. A query
with one candidate has nothing to compare: its loss is 0. A temperature is a number or a tensor of the leading shape, and
divides the scores of both. Gradients go to the student only.

The listwise loss with the teacher's probabilities, ListNet's top-one loss (Cao et al. 2007), is
`divergence.cross_entropy_soft`: scores of candidates are logits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from kdspec.ops.divergence import compared, over_classes
from kdspec.ops.mean import Mean

_NO_LABEL = -100


def margin_mse(student: Tensor, teacher: Tensor, temperature: Tensor | float, *, labels: Tensor | None = None) -> Mean:
    """The mean over negatives of ((s⁺ - s⁻) - (t⁺ - t⁻))²: the student's margins are the teacher's.

    The positive s⁺ is the candidate that `labels` names, and the first candidate of a row without a label, or whose label
    is of a candidate that is not there; all others are negatives. The mean over the negatives of a row is averaged over
    rows, so for rows of equal length it is the mean over all pairs. Both are divided by the temperature, so it falls as 1/T².

    Hofstätter et al. 2020, "Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation",
    equation 5.

    Args:
        student: `(..., candidates)`.
        teacher: of the same shape.
        temperature: of both.
        labels: the place of the positive among the candidates, of the leading shape; -100 for none.
    """
    s, t, there = _scores(student, teacher, temperature)
    first = there.to(torch.int8).argmax(-1)
    if labels is None:
        labels = torch.full_like(first, _NO_LABEL)
    assert labels.shape == first.shape, (
        f"labels of shape {tuple(labels.shape)} for scores of shape {tuple(student.shape)}"
    )
    named = labels.clamp_min(0)[..., None]
    place = torch.where((labels >= 0) & there.gather(-1, named)[..., 0], labels, first)[..., None]
    negative = there.scatter(-1, place, value=False)
    difference = s - t
    margins = difference.gather(-1, place) - difference
    return _over_rows(torch.where(negative, margins, 0.0).square().sum(-1), negative.sum(-1))


def ranknet(student: Tensor, teacher: Tensor, temperature: Tensor | float) -> Mean:
    """The mean over pairs of candidates of -p log q - (1 - p) log(1 - q).

    q = sigmoid(s_i - s_j) and p = sigmoid(t_i - t_j), all scores divided by their temperature: the probability that
    candidate i is before candidate j. This is Burges' cost with the teacher's probability as the target. A low temperature
    of the teacher leaves its order alone, p = 1 for the better one and ½ for two with equal scores. The mean over the pairs of
    a row is averaged over rows. The minimum is the teacher's entropy, and the gradient falls as 1/T.

    Burges et al. 2005, "Learning to Rank using Gradient Descent", equations 1 to 3.
    """
    s, t, there = _scores(student, teacher, temperature)
    one, other = torch.triu_indices(s.shape[-1], s.shape[-1], 1, device=s.device)
    both = there[..., one] & there[..., other]
    margin = s[..., one] - s[..., other]
    target = (t[..., one] - t[..., other]).sigmoid()
    losses = functional.binary_cross_entropy_with_logits(margin, target, reduction="none")
    return _over_rows(torch.where(both, losses, 0.0).sum(-1), both.sum(-1))


def list_mle(student: Tensor, teacher: Tensor, temperature: Tensor | float) -> Mean:
    """The negative logarithm of the probability that the student gives the teacher's order.

    -Σ_i log(exp(s_i) / Σ_{k not before i} exp(s_k)), the Plackett-Luce model of the scores s divided by their temperature: the
    best candidate is drawn first, the next one from those that are left. Candidates with equal scores of the teacher are
    drawn from what is left before any of them (Breslow 1974), so that their order in the row does not matter. The sum over the
    candidates of a row is averaged over rows. The teacher's temperature does not change its order.

    Xia et al. 2008, "Listwise Approach to Learning to Rank: Theory and Algorithm", section 4.
    """
    s, t, there = _scores(student, teacher, temperature)
    left = (t[..., None, :] <= t[..., :, None]) & there[..., None, :]
    left = left | ~there[..., :, None]  # any sum that is finite, where the candidate is not there
    others = torch.where(left, s[..., None, :], -torch.inf).logsumexp(-1)
    return _over_rows(torch.where(there, others - s, 0.0).sum(-1), None)


def _scores(student: Tensor, teacher: Tensor, temperature: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
    """The tempered scores, 0 where a candidate is not there, and where it is."""
    student, teacher = compared(student, teacher)
    there, by = ~teacher.isneginf(), over_classes(temperature, student)
    s, t = (torch.where(there, each, 0.0) / by for each in (student, teacher))
    return s, t, there


def _over_rows(totals: Tensor, parts: Tensor | None) -> Mean:
    """The mean over rows of the mean of each over its parts; of the total, without parts."""
    each = totals if parts is None else totals / parts.clamp_min(1)
    return Mean(each.sum(), float(math.prod(each.shape)), "labels")
