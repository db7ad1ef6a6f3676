"""The queries whose candidates a model orders otherwise than its teacher does: plain data for the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kdspec.api.working.evaluator import State
from kdspec.data.answers.differing_texts import DifferingAnswers, GivenAnswer, farthest
from kdspec.data.ranking.ranked_rows import QueryRow

if TYPE_CHECKING:
    from torch import Tensor

ORDERS = (
    "Those come first whose order is farthest from the teacher's, by Spearman's rho, and from the labels, by nDCG@10: "
    "(1 - rho) / 2 + (1 - nDCG@10)."
)  # fmt: skip
ORDERS_ALONE = "Those come first whose order is farthest from the teacher's, by Spearman's rho."


class _Order(NamedTuple):
    scores: Tensor
    first: int
    ndcg: float


def differing_orders(states: Sequence[State], reference: Sequence[State], rows: Sequence[QueryRow]) -> dict[str, Any]:
    """The queries on which two models differ most, each with the candidate that either ranks first.

    A query with one candidate is not compared. `differ` counts those with another first candidate.

    Args:
        states: of a model, from `CandidateMetrics`.
        reference: of its teacher.
        rows: the rows of the split.
    """
    mine, teachers = _orders(states), _orders(reference)
    compared = sorted(number for number in mine.keys() & teachers.keys() if len(rows[number].documents) > 1)
    if not compared:
        return {}
    similar = [_spearman(mine[number].scores, teachers[number].scores) for number in compared]
    missed = [_missed(mine[number]) for number in compared]
    # A student that follows a teacher into an error does not differ from it.
    apart = [0.0 if rho == 1 else (1 - rho) / 2 + miss for rho, miss in zip(similar, missed, strict=True)]
    chosen = [
        _row(number, rows[number], mine[number], teachers[number], similar[place])
        for place, number in ((place, compared[place]) for place in farthest(apart))
    ]
    return {
        "compared": len(compared),
        "differ": sum(mine[number].first != teachers[number].first for number in compared),
        "differing": chosen, "counted": "queries", "answer": "first passage", "number": "score",
        "order": ORDERS if any(not math.isnan(mine[number].ndcg) for number in compared) else ORDERS_ALONE,
    }  # fmt: skip


def _orders(states: Sequence[State]) -> Mapping[int, _Order]:
    """The scores of each query that the model has answered."""
    found = {}
    for state in states:
        names = ("rows", "candidates", "first", "answered", "ndcg@10")
        columns = zip(*(state[name].tolist() for name in names), state["scores"], strict=True)
        for number, candidates, first, answered, ndcg, scores in columns:
            if answered:
                found[number] = _Order(scores[:candidates], first, ndcg)
    return found


def _spearman(one: Tensor, other: Tensor) -> float:
    """The correlation of two orders; 0 where a model has given all candidates one score, and exactly 1 for equal orders."""
    from kdspec.ops.correlation import pearson, ranks

    first, second = (ranks(each.double().nan_to_num(-math.inf, math.inf, -math.inf)) for each in (one, other))
    if first.equal(second):
        return 1.0
    rho = pearson(first, second).item()
    return 0.0 if math.isnan(rho) else rho


def _missed(order: _Order) -> float:
    return 0.0 if math.isnan(order.ndcg) else 1 - order.ndcg


def _row(number: int, row: QueryRow, mine: _Order, teachers: _Order, rho: float) -> dict[str, Any]:
    about = f"Spearman's rho {rho:.2f}"
    if not math.isnan(mine.ndcg):
        about += f", nDCG@10 {mine.ndcg:.2f}, teacher's {teachers.ndcg:.2f}"
    first, others = (
        GivenAnswer(
            row.documents[each.first],
            each.scores[each.first].item(),
            each.first in row.positives if row.positives else None,
        )
        for each in (mine, teachers)
    )
    return DifferingAnswers(
        row=number, texts=[row.query], mine=first, teachers=others, about=about,
        labels=[row.documents[place] for place in row.positives],
    ).data()  # fmt: skip
