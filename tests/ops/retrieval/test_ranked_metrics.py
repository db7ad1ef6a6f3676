"""Metrics of rankings, against their definitions written once more, and against trec_eval."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdspec.ops.retrieval.ranked_metrics import (
    RelevantRanks,
    among_candidates,
    is_metric,
    means,
    of_each_query,
)

NAMES = ("ndcg@1", "ndcg@3", "ndcg@10", "mrr@1", "mrr@10", "recall@2", "recall@100", "map", "map@3")


def ranked(rankings):
    """Of lists of relevance, best document first."""
    entries = [
        (query, rank, gain) for query, row in enumerate(rankings) for rank, gain in enumerate(row, 1) if gain > 0
    ]
    random.Random(0).shuffle(entries)
    query, rank, gain = zip(*entries, strict=True) if entries else ((), (), ())
    return RelevantRanks(
        torch.tensor(query, dtype=torch.int64), torch.tensor(rank, dtype=torch.int64), torch.tensor(gain).double(), len(rankings)
    )  # fmt: skip


def by_definition(row, name):
    """The metric of one query by the relevance of its whole ranking, with nothing but loops."""
    kind, _, cut = name.partition("@")
    k = int(cut) if cut else len(row)
    relevant = sum(gain > 0 for gain in row)
    if not relevant:
        return math.nan
    if kind == "ndcg":
        dcg, ideal = 0.0, 0.0
        for place in range(min(k, len(row))):
            dcg += max(row[place], 0) / math.log2(place + 2)
            ideal += max(sorted(row, reverse=True)[place], 0) / math.log2(place + 2)
        return dcg / ideal
    if kind == "mrr":
        return next((1 / (place + 1) for place in range(min(k, len(row))) if row[place] > 0), 0.0)
    if kind == "recall":
        return sum(gain > 0 for gain in row[:k]) / relevant
    precisions = [
        sum(g > 0 for g in row[: place + 1]) / (place + 1) for place in range(min(k, len(row))) if row[place] > 0
    ]
    return sum(precisions) / relevant


@given(rankings=st.lists(st.lists(st.integers(-1, 3), max_size=14), min_size=1, max_size=5))
def test_each_metric_is_as_its_definition_says(rankings):
    for name in NAMES:
        expected = [by_definition(row, name) for row in rankings]
        assert of_each_query(ranked(rankings), name).tolist() == pytest.approx(expected, nan_ok=True), name


def test_a_query_without_a_relevant_document_is_left_out_of_the_mean():
    assert means(ranked([[0, 1], [0, 0], [1, 0]]), ["mrr@10"]) == {"mrr@10": 0.75}
    assert means(ranked([[0, 0]]), NAMES) == {}


def test_gains_are_the_relevance_itself():
    """Not 2^relevance - 1: of relevance 3 behind 1, 1 + 3/log2(3) of 3 + 1/log2(3)."""
    expected = (1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3))
    assert of_each_query(ranked([[1, 3]]), "ndcg@10").item() == pytest.approx(expected)


def some_rankings(seed=7, queries=40, documents=30):
    """Relevance of documents in ranked order, the same on every machine."""
    generator = random.Random(seed)
    return [[generator.choice((0, 0, 0, 1, 2, 3)) for _ in range(documents)] for _ in range(queries)]


TREC_EVAL = {
    "ndcg@1": 0.20833333333333331, "ndcg@3": 0.268400333176772, "ndcg@10": 0.36294758402343075, "recall@2": 0.054580157329770326,
    "recall@100": 1.0, "map": 0.5228454214451684, "map@3": 0.06482803885570912, "mrr@10": 0.6012499999999998,
}  # fmt: skip


def test_the_means_are_the_recorded_ones_of_trec_eval():
    """By pytrec_eval-terrier 0.5.11; `trec_eval` below made them of `some_rankings()`."""
    assert means(ranked(some_rankings()), TREC_EVAL) == pytest.approx(TREC_EVAL, abs=1e-12)


MEASURES = {
    "ndcg@1": "ndcg_cut_1", "ndcg@3": "ndcg_cut_3", "ndcg@10": "ndcg_cut_10", "recall@2": "recall_2", "recall@100": "recall_100",
    "map": "map", "map@3": "map_cut_3",
}  # fmt: skip


def trec_eval(rankings):
    import pytrec_eval

    judged = {f"q{q}": {f"d{d}": gain for d, gain in enumerate(row)} for q, row in enumerate(rankings)}
    run = {f"q{q}": {f"d{d}": float(len(row) - d) for d in range(len(row))} for q, row in enumerate(rankings)}
    measures = {"ndcg_cut.1,3,10", "recall.2,100", "map", "map_cut.3", "recip_rank"}
    each = pytrec_eval.RelevanceEvaluator(judged, measures).evaluate(run).values()
    found = {name: sum(row[measure] for row in each) / len(each) for name, measure in MEASURES.items()}
    return {**found, "mrr@10": sum(row["recip_rank"] for row in each) / len(each)}


@pytest.mark.parametrize("seed", range(5))
def test_the_means_are_those_of_trec_eval(seed):
    pytest.importorskip("pytrec_eval", reason="`pip install pytrec_eval-terrier` runs it beside trec_eval")
    rankings = some_rankings(seed)
    assert means(ranked(rankings), [*MEASURES, "mrr@10"]) == pytest.approx(trec_eval(rankings), abs=1e-12)


@given(
    rows=st.lists(
        st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 2)), min_size=1, max_size=7), min_size=1, max_size=4
    )
)
def test_equal_scores_of_candidates_rank_the_least_relevant_first(rows):
    longest = max(map(len, rows))
    scores, gains = (
        torch.tensor([[c[part] for c in row] + [9] * (longest - len(row)) for row in rows]).float() for part in (0, 1)
    )
    mask = torch.tensor([[place < len(row) for place in range(longest)] for row in rows])
    orders = [[gain for _, gain in sorted(row, key=lambda pair: (-pair[0], pair[1]))] for row in rows]
    for name in NAMES:
        expected = of_each_query(ranked(orders), name).tolist()
        assert of_each_query(among_candidates(scores, gains, mask), name).tolist() == pytest.approx(
            expected, nan_ok=True
        )


def test_a_model_that_scores_all_candidates_alike_or_nan_is_not_praised():
    gains, mask = torch.tensor([[1.0, 0, 0, 0]]), torch.ones(1, 4, dtype=torch.bool)
    for scores in (torch.zeros(1, 4), torch.full((1, 4), torch.nan), torch.tensor([[torch.nan, 1, 2, 3]])):
        assert means(among_candidates(scores, gains, mask), ["mrr@10"]) == {"mrr@10": 0.25}


def test_the_names_of_metrics():
    assert all(map(is_metric, NAMES))
    assert not any(
        map(is_metric, ("ndcg", "mrr", "recall", "ndcg@0", "map@", "ndcg@x", "hits@10", "ndcg@1234567", "map\n"))
    )
