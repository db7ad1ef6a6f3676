"""A set of queries and a corpus on which the vectors of a model are evaluated by what they find."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Tag

from kdspec.api.spec.names import Distinct, Name
from kdspec.data.embedding.differing_pairs import ComparedPairs
from kdspec.data.embedding.evaluate_sets import BuiltSet, EvaluateSet, ScoredPairs, SetDefaults
from kdspec.data.embedding.unique_texts import UniqueTexts, Vectors
from kdspec.data.files.retrieval_files import RetrievalFiles, RetrievalTexts, numbered

if TYPE_CHECKING:
    from kdspec.api.kinds.context import BuildContext, TaskContext
    from kdspec.diagnostics.fault import Fault

PROMPTS = ("query", "document")
"""The names of the prompts with which models read queries and documents."""


class RetrievalSet(RetrievalFiles, EvaluateSet):
    """Queries, the documents that are searched by the cosine of vectors, and which of them are relevant.

    Metrics, over the queries with a relevant document: `ndcg@10`, with the relevance as the gain, `mrr@10`, `recall@100` and
    `map`, as trec_eval computes them.
    """

    metrics = ("ndcg@10", "mrr@10", "recall@100", "map")

    def check(self, context: BuildContext) -> Iterator[Fault]:
        """Nothing: the files are read when the set is built."""
        del context
        return iter(())

    def build(
        self, context: TaskContext, unique: Mapping[str, UniqueTexts], default: SetDefaults
    ) -> Mapping[str, BuiltSet]:
        """Read the files.

        Raises:
            Fault: KD502 with file and row.
        """
        del default
        return {split: SearchedCorpus(found, unique[split]) for split, found in self.read(context.folder).items()}


class SearchedCorpus(BuiltSet):
    """Queries and documents by number, and the relevant ones among their pairs.

    Args:
        found: the set.
        unique: the texts of its split, to which its own are added.
    """

    def __init__(self, found: RetrievalTexts, unique: UniqueTexts) -> None:
        query, document = PROMPTS
        self.queries = unique.add(found.queries.values(), query)
        self.documents = unique.add(found.documents.values(), document)
        self.relevant = list(numbered(found))

    def merge(self, vectors: Vectors) -> dict[str, float]:
        """The metrics; NaN if the vector of a text is not there."""
        return self._searched(vectors, vectors)

    def beside(self, mine: Vectors, theirs: Vectors) -> dict[str, float]:
        """The metrics of asymmetric search: queries by one model, documents by another one of the same width."""
        if mine.table.shape[1] != theirs.table.shape[1]:
            return {}
        return {f"asymmetric.{name}": value for name, value in self._searched(mine, theirs).items()}

    def pairs(self) -> ComparedPairs:
        """The queries with their relevant documents, and the relevance of each."""
        queries, documents, relevance = zip(*self.relevant, strict=True) if self.relevant else ((), (), ())
        first, second = [self.queries[each] for each in queries], [self.documents[each] for each in documents]
        return ComparedPairs(first, second, relevance, are_rows=False)

    def _searched(self, asked: Vectors, found: Vectors) -> dict[str, float]:
        import torch

        from kdspec.ops.retrieval.exact_search import VectorScores, ranks
        from kdspec.ops.retrieval.ranked_metrics import RelevantRanks, means

        if not (asked.known[self.queries].all() and found.known[self.documents].all()):
            return dict.fromkeys(RetrievalSet.metrics, math.nan)
        scores = VectorScores(asked.table[self.queries], found.table[self.documents])
        query, document, relevance = (torch.tensor(part) for part in zip(*self.relevant, strict=True))
        ranked = RelevantRanks(query, ranks(scores, query, document), relevance.double(), len(self.queries))
        return dict(means(ranked, RetrievalSet.metrics))


def _form(value: Any) -> str:
    """Which of the sets a mapping is meant to be, by its keys."""
    if isinstance(value, EvaluateSet):
        return "retrieval" if isinstance(value, RetrievalSet) else "pairs"
    return "retrieval" if isinstance(value, Mapping) and {*RetrievalFiles.model_fields} & {*value} else "pairs"


AnySet = Annotated[
    Annotated[ScoredPairs, Tag("pairs")] | Annotated[RetrievalSet, Tag("retrieval")], Discriminator(_form)
]
"""A set as a spec writes it: pairs of texts with scores, or queries and a corpus."""
EvaluateSets = Annotated[dict[Name, AnySet], Distinct]
"""Sets by their names."""
