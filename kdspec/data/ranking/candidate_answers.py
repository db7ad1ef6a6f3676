"""Scores of candidates as predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kdspec.api.working.row_answers import RowAnswers
from kdspec.data.answers.exact_numbers import exact
from kdspec.data.ranking.ranked_rows import QueryRow

if TYPE_CHECKING:
    from kdspec.api.working.batch import Batch
    from kdspec.api.working.step import Features


class CandidateAnswers(RowAnswers):
    """The best candidate of each query, and the score of each in the order in which the row has them.

    Args:
        rows: the queries with their candidates.
    """

    columns = ("answer", "scores")
    probable = False

    def __init__(self, rows: Sequence[QueryRow]) -> None:
        self.rows = rows

    def of(self, batches: Iterable[tuple[Features, Batch]], *, probabilities: bool) -> Iterator[dict[str, Any]]:
        """One query after another."""
        from kdspec.objectives.soft_labels import outputs

        del probabilities
        for features, batch in batches:
            every = outputs(features)[0].dense().float()
            for number, logits in zip(batch.rows, every, strict=True):
                row = self.rows[number]
                scores = exact(logits[: len(row.documents)])
                best = max(range(len(scores)), key=scores.__getitem__)
                yield {"answer": row.documents[best], "scores": [scores[place] for place in row.places]}
