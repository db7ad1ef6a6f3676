"""The metrics of ranked candidates, and the agreement of two models about the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator, Metric, State
from kdspec.data.answers.same_answers import share_of_same
from kdspec.data.ranking.differing_orders import differing_orders
from kdspec.data.ranking.ranked_rows import QueryRow

if TYPE_CHECKING:
    from kdspec.api.working.step import Features

NAMES = ("ndcg@10", "mrr@10", "map", "accuracy")
"""The metrics of given candidates."""


class CandidateMetrics(Evaluator):
    """nDCG@10, MRR@10, MAP and accuracy of the first candidate, over the rows with a positive and another candidate.

    A positive has the gain 1, another candidate 0. Of equal scores those of positives are ranked last.
    Of a model with recorded scores the rows without scores are left out.

    Args:
        rows: the rows of the split, whose texts `error_analysis` has; without them there is none.
    """

    primary = Metric("ndcg@10")
    agrees_on = "queries with the same first candidate"

    def __init__(self, rows: Sequence[QueryRow] = ()) -> None:
        self._rows = rows

    def add(self, features: Features, batch: Batch) -> State:
        """The metrics, the scores and the first candidate of each row."""
        import torch

        from kdspec.objectives.soft_labels import outputs
        from kdspec.ops.retrieval.ranked_metrics import among_candidates, of_each_query

        scores = outputs(features)[0].dense().detach().float().cpu()
        there, positives = (batch.targets[name].cpu() != 0 for name in ("candidates_mask", "positives"))
        ranked = among_candidates(scores, positives, there)
        best = torch.zeros(len(scores), dtype=torch.bool)
        best[ranked.query[ranked.rank == 1]] = True
        number, answered = positives.sum(-1), batch.targets["answered"].cpu() != 0
        return {
            "rows": torch.tensor(batch.rows),
            "scores": scores,
            "candidates": there.sum(-1),
            "answered": answered,
            "first": torch.where(there, scores, -torch.inf).argmax(-1),
            "known": (number > 0) & (number < there.sum(-1)) & answered,
            "accuracy": best.double(),
            **{name: of_each_query(ranked, name) for name in NAMES if name != "accuracy"},
        }

    def merge(self, states: Sequence[State]) -> dict[str, float]:
        """Empty if no row is counted."""
        import torch

        if not states:
            return {}
        known = torch.cat([state["known"] for state in states])
        if not known.any():
            return {}
        return {name: torch.cat([state[name] for state in states])[known].mean().item() for name in NAMES}

    def agreement(self, states: Sequence[State], reference: Sequence[State]) -> float | None:
        """The share of counted rows with the same first candidate, or of all rows if none is counted."""
        return share_of_same(states, reference, "first", "known")

    def error_analysis(
        self, states: Sequence[State], reference: Sequence[State], names: Sequence[str]
    ) -> Mapping[str, Any]:
        """The queries whose candidates the model orders otherwise than its teacher, if there is one."""
        del names  # scores have none
        return differing_orders(states, reference, self._rows) if reference and self._rows else {}
