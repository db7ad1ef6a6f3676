"""Exact search: the same result whatever the blocks, with ties in the order of documents, with faiss and without."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdspec.ops.retrieval import exact_search
from kdspec.ops.retrieval.exact_search import TokenScores, VectorScores, ranks, search


def ordered(scores):
    """The documents of each query by its scores to nine digits, earlier ones first among equals, in plain Python."""
    rows = [[round(float(value), 9) for value in row] for row in scores]
    return [sorted(range(len(row)), key=lambda number: (-row[number], number)) for row in rows]


def made(queries, documents, width, seed, similarity="cos"):
    """Vectors of few distinct values, so that there are ties, and every third document twice."""
    generator = torch.Generator().manual_seed(seed)
    one, other = (torch.randint(-1, 2, (number, width), generator=generator).float() for number in (queries, documents))
    other[::3] = other[0].clone()
    return VectorScores(one, other, similarity)


def plain(scores):
    """All scores by numpy, pair by pair."""
    one, other = scores.queries.double().numpy(), scores.documents.double().numpy()

    def unit(vector):
        norm = np.sqrt((vector * vector).sum()) if scores.similarity == "cos" else 1
        return vector / norm if norm else vector

    return [[(unit(q) * unit(d)).sum() for d in other] for q in one]


def check(scores, k, expected):
    values, documents = search(scores, k)
    order = ordered(expected)
    assert documents.tolist() == [row[:k] for row in order]
    assert values.tolist() == [
        pytest.approx([expected[q][d] for d in row[:k]], abs=1e-6) for q, row in enumerate(order)
    ]
    pairs = [(q, d) for q in range(len(expected)) for d in range(len(order[0]))]
    query, document = (torch.tensor(part) for part in zip(*reversed(pairs), strict=True))
    found = dict(zip(reversed(pairs), ranks(scores, query, document).tolist(), strict=True))
    assert all(found[q, d] == order[q].index(d) + 1 for q, d in pairs)


@settings(deadline=None)
@given(
    queries=st.integers(1, 5), documents=st.integers(1, 12), k=st.integers(1, 14), block=st.sampled_from([1, 6, 30, 2**22]),
    seed=st.integers(0, 10), similarity=st.sampled_from(["cos", "dot"]),
)  # fmt: skip
def test_it_is_a_sort_of_all_scores_whatever_the_blocks(queries, documents, k, block, seed, similarity):
    scores = made(queries, documents, 3, seed, similarity)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_search, "_BLOCK", block)
        patch.setitem(sys.modules, "faiss", None)
        patch.setattr("importlib.util.find_spec", lambda _: None)
        check(scores, k, plain(scores))


@settings(deadline=None)
@given(block=st.sampled_from([1, 40, 2**22]), seed=st.integers(0, 20))
def test_late_interaction_sums_the_best_token_of_each_query_token(block, seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = [torch.randint(1, 5, (number,), generator=generator) for number in (3, 7)]
    tokens = [torch.randint(-1, 2, (int(each.sum()), 2), generator=generator).float() for each in lengths]
    one, other = (part.split(each.tolist()) for part, each in zip(tokens, lengths, strict=True))
    expected = [[sum(max(float(a @ b) for b in d) for a in q) for d in other] for q in one]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_search, "_BLOCK", block)
        check(TokenScores(tokens[0], lengths[0], tokens[1], lengths[1]), 4, expected)


def test_a_scale_of_cosines_is_left_out_and_dot_products_stay():
    unit = torch.nn.functional.normalize(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    cosines = VectorScores(20 * unit, unit, "dot").without_scale()
    assert torch.allclose(cosines.queries, unit)
    lengths = torch.tensor([2, 3])
    assert torch.allclose(TokenScores(3 * unit, lengths, unit, lengths).without_scale().queries, unit)
    for queries, documents in ((torch.diag(torch.tensor([1.0, 2, 3])), unit), (unit, 2 * unit)):
        assert torch.equal(VectorScores(queries, documents, "dot").without_scale().queries, queries)


def test_texts_without_tokens_score_lowest_as_documents_and_nothing_as_queries():
    tokens = torch.eye(2)
    scores = TokenScores(tokens, torch.tensor([0, 2]), -tokens, torch.tensor([1, 0, 1]))
    assert search(scores, 3)[1][1].tolist() == [0, 2, 1]
    assert search(scores, 3)[0][0, 0] == 0


def test_what_is_not_a_number_scores_lowest():
    vectors = torch.tensor([[1.0, 0], [torch.nan, 0], [0.5, 1]])
    scores = VectorScores(torch.tensor([[1.0, 0], [torch.nan, 1]]), vectors, "dot")
    assert search(scores, 3)[1].tolist() == [[0, 2, 1], [0, 1, 2]]
    assert ranks(scores, torch.tensor([0, 1]), torch.tensor([1, 1])).tolist() == [3, 2]


class Index:
    """An exact index as faiss has it: inner products in float32, equal ones in any order."""

    def __init__(self, width):
        self.width = width

    def add(self, documents):
        self.documents = documents

    def search(self, queries, k):
        values = np.einsum("qd,nd->qn", queries, self.documents)
        order = np.argsort(-values[:, ::-1], axis=1)[:, :k]
        numbers = values.shape[1] - 1 - order
        return np.take_along_axis(values, numbers, 1), numbers


def test_what_an_index_proposes_is_scored_again_and_searched_for_where_it_may_be_incomplete(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", SimpleNamespace(IndexFlatIP=Index, __spec__=SimpleNamespace()))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "faiss" or None)
    for spare in (0, 1, 32):
        monkeypatch.setattr(exact_search, "_SPARE", spare)
        for similarity in ("cos", "dot"):
            scores = made(6, 40, 3, 1, similarity)
            check(scores, 5, plain(scores))


def test_it_is_the_same_with_faiss(monkeypatch):
    pytest.importorskip("faiss", reason="`pip install faiss-cpu` searches with it too")
    for seed in range(3):
        scores = made(20, 300, 4, seed)
        found = search(scores, 10)
        with monkeypatch.context() as patch:
            patch.setattr("importlib.util.find_spec", lambda _: None)
            without = search(scores, 10)
        assert all(torch.equal(*pair) for pair in zip(found, without, strict=True))
