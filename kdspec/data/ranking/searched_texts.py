"""Texts that are searched: rows through which a model gives a vector for each, and what is found with these vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdspec.api.working.evaluator import Evaluator, Metric, State
from kdspec.data.files.retrieval_files import RetrievalTexts, numbered
from kdspec.data.ranking.in_batch import VECTORS
from kdspec.data.ranking.ranked_rows import QueryRow
from kdspec.data.ranking.ranking_inputs import SIDES

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.working.batch import Batch
    from kdspec.api.working.step import Features
    from kdspec.ops.retrieval.exact_search import Scores

SEARCH_NAMES = ("ndcg@10", "mrr@10", "recall@100", "map")
"""The metrics of a search; the first one selects."""
FORM = "each"
"""The form of a reader whose model has these features."""


class SearchedTexts:
    """Queries and documents as rows: of each text one, beside the shortest text of the other side.

    A batch has a text once, so that only one text of a batch is encoded again.

    Args:
        queries: the queries.
        documents: the documents.
    """

    def __init__(self, queries: Sequence[str], documents: Sequence[str]) -> None:
        self.queries, self.documents = tuple(dict.fromkeys(queries)), tuple(dict.fromkeys(documents))
        self._query, self._document = min(self.queries, key=len), min(self.documents, key=len)

    def __len__(self) -> int:
        return len(self.queries) + len(self.documents)

    def rows(self, form: str) -> list[QueryRow]:
        """The rows: queries, then documents. Of a model that does not read texts alone they have no use: all are as short as can be."""
        if form != FORM:
            return [_row(self._query, self._document)] * len(self)
        return [
            *(_row(query, self._document) for query in self.queries),
            *(_row(self._query, document) for document in self.documents),
        ]

    def texts(self) -> list[tuple[str, ...]]:
        """The text of each row."""
        return [(text,) for text in (*self.queries, *self.documents)]

    def state(self, features: Features, batch: Batch, before: int) -> State:
        """The numbers of the texts of a batch with their vectors, or those of their tokens; empty without vectors.

        Args:
            features: of the model, with `VECTORS`.
            batch: the batch.
            before: number of rows of the split that stand before these.
        """
        import torch

        numbers = torch.tensor(batch.rows) - before
        rows = (numbers >= 0).nonzero().squeeze(1)
        numbers = numbers[rows]
        if not len(rows) or any(name not in features for name in VECTORS):
            return {}
        found: dict[str, Tensor] = {}
        own = batch.inputs[""]
        at = {"query": own["queries"].cpu()[rows], "document": own["candidates"].cpu()[rows, 0]}
        for side, name, here in zip(
            SIDES, VECTORS, (numbers < len(self.queries), numbers >= len(self.queries)), strict=True
        ):
            (vectors,) = features.heads(name)
            vectors, places = vectors.float().cpu(), at[side][here]
            found[f"{side}.number"] = numbers[here] - (0 if side == "query" else len(self.queries))
            if vectors.ndim == 2:
                found[f"{side}.vectors"] = vectors[places]
            else:
                kept = (batch.inputs[side]["attention_mask"].cpu() != 0)[places]
                found[f"{side}.lengths"] = kept.sum(1)
                found[f"{side}.vectors"] = vectors[places][kept]
        return found

    def scores(self, states: Sequence[State]) -> Scores | None:
        """The scores of all pairs; None if the vector of a text is not there."""
        import torch

        from kdspec.ops.retrieval.exact_search import TokenScores, VectorScores, chosen

        sides: list[tuple[Tensor, Tensor | None]] = []
        for side, number in zip(SIDES, (len(self.queries), len(self.documents)), strict=True):
            there = [state for state in states if f"{side}.number" in state]
            if sum(len(state[f"{side}.number"]) for state in there) != number:
                return None
            order = torch.cat([state[f"{side}.number"] for state in there]).argsort()
            vectors = torch.cat([state[f"{side}.vectors"] for state in there])
            if f"{side}.lengths" not in there[0]:
                sides.append((vectors[order], None))
                continue
            lengths = torch.cat([state[f"{side}.lengths"] for state in there])
            sides.append(chosen(vectors, lengths, order))
        (queries, of_query), (documents, of_document) = sides
        if of_query is None or of_document is None:
            return VectorScores(queries, documents, "dot")
        return TokenScores(queries, of_query, documents, of_document)


def _row(query: str, document: str) -> QueryRow:
    return QueryRow(query, (document,), (0.0,), ())


class CorpusSearch:
    """A retrieval set whose corpus is searched, and the metrics of the rankings.

    Args:
        found: the set.
    """

    def __init__(self, found: RetrievalTexts) -> None:
        self.texts = SearchedTexts([*found.queries.values()], [*found.documents.values()])
        queries, documents = (
            {text: place for place, text in enumerate(texts)} for texts in (self.texts.queries, self.texts.documents)
        )
        self.queries = [queries[text] for text in found.queries.values()]
        """The number of each query's text: texts may be equal."""
        self.documents = [documents[text] for text in found.documents.values()]
        self.relevant = list(numbered(found))

    def merge(self, states: Sequence[State]) -> Mapping[str, float]:
        """The means over the queries; empty if vectors are not there."""
        import torch

        from kdspec.ops.retrieval.exact_search import ranks
        from kdspec.ops.retrieval.ranked_metrics import RelevantRanks, means

        scores = self.texts.scores(states)
        if scores is None:
            return {}
        query, document, relevance = (torch.tensor(part) for part in zip(*self.relevant, strict=True))
        every = scores.of(torch.tensor(self.queries), torch.tensor(self.documents))
        return means(
            RelevantRanks(query, ranks(every, query, document), relevance.double(), len(self.queries)), SEARCH_NAMES
        )


class SearchMetrics(Evaluator):
    """The metrics of given candidates, and those of the search in a corpus for models that read texts alone.

    Args:
        candidates: the evaluator of the rows with candidates.
        search: what is searched in.
        before: number of rows with candidates, which stand before those of the search.
        name: the first part of the names of the metrics of the search.
        primary: the metric that selects the best student.
    """

    def __init__(self, candidates: Evaluator, search: CorpusSearch, before: int, name: str, primary: str) -> None:
        self._candidates, self._search, self._before, self._name = candidates, search, before, name
        self.reads, self.optional = candidates.reads, candidates.optional
        self.of_form = {FORM: frozenset(VECTORS)}
        self.agrees_on, self.primary = candidates.agrees_on, Metric(primary)

    def add(self, features: Features, batch: Batch) -> State:
        """Those of the candidates, and vectors of texts."""
        import torch

        given = (torch.tensor(batch.rows) < self._before).nonzero().squeeze(1)
        own = self._candidates.add(features, batch) if len(given) else {}
        state = {f"candidates.{name}": tensor.cpu()[given] for name, tensor in own.items()}
        return {**state, **self._search.texts.state(features, batch, self._before)}

    def merge(self, states: Sequence[State]) -> dict[str, float]:
        """Those of the candidates, and those of the search by `<name>.<metric>`."""
        searched = self._search.merge(states)
        return {
            **self._candidates.merge(_own(states)),
            **{f"{self._name}.{name}": value for name, value in searched.items()},
        }

    def agreement(self, states: Sequence[State], reference: Sequence[State]) -> float | None:
        """That of the candidates."""
        mine, theirs = _own(states), _own(reference)
        return self._candidates.agreement(mine, theirs) if mine and theirs else None

    def error_analysis(
        self, states: Sequence[State], reference: Sequence[State], names: Sequence[str]
    ) -> Mapping[str, Any]:
        """That of the candidates."""
        return self._candidates.error_analysis(_own(states), _own(reference), names)


def _own(states: Sequence[State]) -> list[State]:
    prefix = "candidates."
    found = ({name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)} for state in states)
    return [state for state in found if state]
