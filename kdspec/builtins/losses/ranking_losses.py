"""Losses between the scores of candidates, of student and teacher; `ce` and `kl` are listwise losses on them as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.losses import LogitKind, LogitLoss

if TYPE_CHECKING:
    from kdspec.ops.mean import Mean


class MarginMSE(LogitLoss):
    """Squared difference of the margins of student and teacher: `((s⁺ - s⁻) - (t⁺ - t⁻))²`.

    s⁺ is the score of the positive, s⁻ that of a negative. The positive is the one that the labels name, and else the first
    candidate; all others of the row are negatives.
    Reduction: the mean over the negatives of a row, and over rows.
    T²: none; a temperature brings scores of other scales together: `{student: 1, teacher: 20}` compares cosines with scores
    that are 20 times as large.
    Paper: Hofstätter et al. 2020, "Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge
    Distillation" (https://arxiv.org/abs/2010.02666), section 3.2.
    """

    name = "margin_mse"
    scope = "position"
    takes_labels = True
    compares: ClassVar[frozenset[LogitKind]] = frozenset({"scores"})
    scaled_by_temperature = True

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec.ops.ranking.score_losses import margin_mse

        del context
        return margin_mse


class RankNet(LogitLoss):
    """Cross-entropy for each pair of candidates of which of them is better: `-p log q - (1 - p) log(1 - q)`.

    q = sigmoid((s_i - s_j) / T) and p = sigmoid((t_i - t_j) / T): the student's and the teacher's probability that candidate
    i is better than candidate j. A low temperature of the teacher makes its order the target: p is 1, and ½ for equal scores.
    Reduction: the mean over the pairs of a row, and over rows.
    T²: none, so the gradient falls as 1/T. The minimum is the teacher's entropy, not 0.
    Paper: Burges et al. 2005, "Learning to Rank using Gradient Descent" (https://doi.org/10.1145/1102351.1102363),
    equations 1 to 3; the target is the teacher's probability in place of that of labels.
    """

    name = "ranknet"
    scope = "position"
    compares: ClassVar[frozenset[LogitKind]] = frozenset({"scores"})

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec.ops.ranking.score_losses import ranknet

        del context
        return ranknet


class ListMLE(LogitLoss):
    """Negative log-likelihood of the teacher's order: `-Σ_i log(exp s_i / Σ_k exp s_k)`, k over i and all behind it.

    The order is all that it takes of the teacher; `ce` takes its scores as well. Candidates with equal scores of the teacher
    compete with one another, each against all that are not before it (Breslow 1974), so that their places in the row do not
    matter.
    Reduction: the sum over the candidates of a row, and the mean over rows.
    T²: none. The temperature divides the student's scores; it does not change the teacher's order.
    Paper: Xia et al. 2008, "Listwise Approach to Learning to Rank: Theory and Algorithm"
    (https://doi.org/10.1145/1390156.1390306), section 4.
    """

    name = "list_mle"
    scope = "position"
    compares: ClassVar[frozenset[LogitKind]] = frozenset({"scores"})

    def build(self, context: BuildContext) -> Callable[..., Mean]:
        from kdspec.ops.ranking.score_losses import list_mle

        del context
        return list_mle


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The losses on scores."""
    return [MarginMSE, RankNet, ListMLE]
