"""Scores of candidates: each similarity against its definition, and padding and missing candidates that change nothing."""

from __future__ import annotations

import pytest
import torch

from kdspec.ops.ranking.text_scores import candidate_scores

QUERIES = torch.tensor([1, 0, 1])
CANDIDATES = torch.tensor([[0, 2, 3], [1, -1, -1], [3, 0, -1]])


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("similarity", ["cos", "dot"])
def test_vectors_are_compared_by_their_cosine_or_dot_product(similarity):
    query, document = drawn(2, 4), drawn(4, 4, seed=1)
    found = candidate_scores(query, document, QUERIES, CANDIDATES, similarity)
    for row, number in enumerate(QUERIES):
        for place, other in enumerate(CANDIDATES[row]):
            if other >= 0:
                one, two = query[number], document[other]
                length = one.norm() * two.norm() if similarity == "cos" else 1
                assert found[row, place] == pytest.approx(float(one @ two / length), rel=1e-12)
    assert found.isfinite().all()


def test_late_interaction_sums_the_best_token_of_the_document_for_each_token_of_the_query():
    query, document = drawn(2, 3, 4), drawn(4, 5, 4, seed=1)
    lengths = torch.tensor([[3, 2, 0, 0], [5, 1, 4, 2]])
    masks = torch.arange(3) < lengths[0, :2, None], torch.arange(5) < lengths[1, :, None]
    found = candidate_scores(query, document, QUERIES, CANDIDATES, "maxsim", masks=masks)
    for row, number in enumerate(QUERIES):
        for place, other in enumerate(CANDIDATES[row]):
            if other >= 0:
                one, two = query[number, : lengths[0, number]], document[other, : lengths[1, other]]
                best = sum(max(float(token @ each) for each in two) for token in one)
                assert found[row, place] == pytest.approx(best, rel=1e-12)
    assert found.isfinite().all()


def test_late_interaction_is_that_of_sentence_transformers():
    similarity = pytest.importorskip("sentence_transformers.util.similarity", reason="sentence-transformers 6 has it")
    query, document = drawn(2, 3, 4).float(), drawn(4, 5, 4, seed=1).float()
    masks = torch.tensor([[1, 1, 0], [1, 1, 1]]), torch.tensor([[1] * 5, [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1] * 5])
    every = torch.arange(4).expand(2, 4)
    found = candidate_scores(query, document, torch.arange(2), every, "maxsim", masks=masks)
    theirs = similarity.maxsim(query, document, a_mask=masks[0], b_mask=masks[1])
    assert torch.allclose(found, theirs, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_are_float32_under_autocast_and_for_half_precision(dtype):
    query, document = drawn(2, 3, 4).to(dtype), drawn(4, 5, 4, seed=1).to(dtype)
    masks = torch.ones(2, 3), torch.ones(4, 5)
    with torch.autocast("cpu", torch.bfloat16):
        found = candidate_scores(query, document, QUERIES, CANDIDATES, "maxsim", masks=masks)
    assert found.dtype == torch.float32
    exact = candidate_scores(query.double(), document.double(), QUERIES, CANDIDATES, "maxsim", masks=masks)
    assert torch.allclose(found.double(), exact, atol=1e-5)
