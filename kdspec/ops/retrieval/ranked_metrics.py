"""Metrics of rankings with graded relevance: nDCG, MRR, recall and average precision.

A ranking is known by the ranks of the relevant documents of each query, since the metrics need nothing else. They are those
of trec_eval (`ndcg_cut`, `recip_rank`, `recall`, `map`, `map_cut`): the gain of a document is its relevance, not 2^relevance - 1,
its discount 1 / log2(rank + 1); recall and average precision count every document of relevance above 0 as relevant, and divide
by all relevant documents of the query, also by those beyond the cut-off. A query without a relevant document has no value (NaN)
and is left out of means.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_NAME = re.compile(r"(?:(ndcg|mrr|recall|map)@([1-9][0-9]{0,5})|map)", re.ASCII)


@dataclass(frozen=True)
class RelevantRanks:
    """The relevant documents of some queries in rankings: flat tensors with an entry for each of them, in any order."""

    query: Tensor
    """The number of the query, int64 `(entries,)`, below `queries`."""
    rank: Tensor
    """The rank of the document, int64 `(entries,)`, counted from 1."""
    relevance: Tensor
    """The relevance of the document, float64 `(entries,)`, above 0."""
    queries: int
    """Number of queries."""


def ndcg(ranked: RelevantRanks, k: int) -> Tensor:
    """nDCG@k of each query, float64 `(queries,)`: Σ relevance / log2(rank + 1) over the first k, divided by the largest possible.

    Järvelin and Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques" (https://doi.org/10.1145/582415.582418).
    """
    best = _places(ranked, -ranked.relevance)
    gained, possible = (_discounted(ranked, rank, k) for rank in (ranked.rank, best))
    return _known(ranked, gained / possible)


def mrr(ranked: RelevantRanks, k: int) -> Tensor:
    """Reciprocal rank of the first relevant document of each query, float64 `(queries,)`; 0 if it is not among the first k."""
    never = torch.full((ranked.queries,), 2**62)
    first = never.scatter_reduce(0, ranked.query, ranked.rank, "amin")
    return _known(ranked, torch.where(first <= k, 1 / first.double(), 0))


def recall(ranked: RelevantRanks, k: int) -> Tensor:
    """The share of the relevant documents of each query that is among the first k, float64 `(queries,)`."""
    return _known(ranked, _sum(ranked, (ranked.rank <= k).double()) / _relevant(ranked))


def average_precision(ranked: RelevantRanks, k: int | None = None) -> Tensor:
    """Average precision of each query, float64 `(queries,)`: the mean over its relevant documents of the precision at their ranks.

    One that is not among the first k counts 0; without k, the whole ranking counts. sentence-transformers divides `map@k` by
    min(k, relevant documents) instead.
    """
    precision = _places(ranked, ranked.rank.double()).double() / ranked.rank
    if k is not None:
        precision = torch.where(ranked.rank <= k, precision, 0)
    return _known(ranked, _sum(ranked, precision) / _relevant(ranked))


def is_metric(name: str) -> bool:
    """Whether it is the name of a metric: `ndcg@k`, `mrr@k`, `recall@k`, `map@k` or `map`."""
    return _NAME.fullmatch(name) is not None


def of_each_query(ranked: RelevantRanks, name: str) -> Tensor:
    """The metric with this name (`ndcg@10`) of each query, float64 `(queries,)`; NaN for a query without a relevant document."""
    found = _NAME.fullmatch(name)
    assert found is not None, f"`{name}` is no metric of rankings"
    if found[1] is None:
        return average_precision(ranked)
    made = {"ndcg": ndcg, "mrr": mrr, "recall": recall, "map": average_precision}[found[1]]
    return made(ranked, int(found[2]))


def means(ranked: RelevantRanks, names: Collection[str]) -> Mapping[str, float]:
    """The mean of each metric over the queries that have a relevant document; empty if none has."""
    if not len(ranked.query):
        return {}
    return {name: of_each_query(ranked, name).nanmean().item() for name in names}


def among_candidates(scores: Tensor, relevance: Tensor, mask: Tensor) -> RelevantRanks:
    """The ranking of the given candidates of each query by their scores.

    Candidates with equal scores are ranked with the least relevant first, and so are those whose score is NaN behind all others:
    the order in which data lists candidates knows the answer, and a model that scores all of them alike must not be praised for it.

    Args:
        scores: `(rows, candidates)`.
        relevance: `(rows, candidates)`; a candidate of 0 or less is not relevant.
        mask: `(rows, candidates)`, True for candidates.
    """
    scores = scores.double().nan_to_num(-torch.inf, torch.inf, -torch.inf)
    gains = relevance.double().clamp(min=0).masked_fill(~mask, 0)
    query, place = gains.nonzero(as_tuple=True)
    own, gain = scores[query, place, None], gains[query, place, None]
    before = (scores[query] > own) | ((scores[query] == own) & (gains[query] < gain))
    tied = (scores[query] == own) & (gains[query] == gain) & (torch.arange(scores.shape[1]) < place[:, None])
    rank = 1 + ((before | tied) & mask[query]).sum(1)
    return RelevantRanks(query, rank, gain.squeeze(1), len(scores))


def _places(ranked: RelevantRanks, key: Tensor) -> Tensor:
    """The place of each entry among those of its query by a key, counted from 1, int64 `(entries,)`."""
    order = key.argsort(stable=True)
    order = order[ranked.query[order].argsort(stable=True)]
    counts = ranked.query.bincount(minlength=ranked.queries)
    starts = counts.cumsum(0) - counts
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order)) - starts[ranked.query[order]] + 1
    return places


def _discounted(ranked: RelevantRanks, rank: Tensor, k: int) -> Tensor:
    return _sum(ranked, torch.where(rank <= k, ranked.relevance / (rank + 1.0).double().log2(), 0))


def _sum(ranked: RelevantRanks, values: Tensor) -> Tensor:
    return torch.zeros(ranked.queries, dtype=torch.float64).index_add(0, ranked.query, values.double())


def _relevant(ranked: RelevantRanks) -> Tensor:
    return ranked.query.bincount(minlength=ranked.queries).double()


def _known(ranked: RelevantRanks, values: Tensor) -> Tensor:
    return torch.where(_relevant(ranked) > 0, values, torch.nan)
