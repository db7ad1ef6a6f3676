"""The loss of scored candidates."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from kdspec.ops.ranking.label_losses import (
    cross_entropy_in_batch,
    cross_entropy_of_positives,
    scores_between,
)


def test_one_positive_is_the_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    right = torch.tensor([0, 4, 2, 2, 1, 3])
    found = cross_entropy_of_positives(scores, functional.one_hot(right, 5), torch.ones(6, 5))
    expected = functional.cross_entropy(scores, right)
    assert torch.allclose(found.value, expected, rtol=1e-12)
    mine, theirs = (torch.autograd.grad(each, scores)[0] for each in (found.value, expected))
    assert torch.allclose(mine, theirs, rtol=1e-12)


def test_the_gradient_is_finite_for_large_scores_and_nothing_at_masked_places():
    scores = torch.tensor([[1e4, -1e4, torch.inf], [-1e4, 1e4, torch.nan]], requires_grad=True)
    there = torch.tensor([[1, 1, 0], [1, 1, 0]])
    found = cross_entropy_of_positives(scores, torch.tensor([[1, 0, 0], [1, 0, 0]]), there)
    assert found.value.item() == 1e4
    (gradient,) = torch.autograd.grad(found.value, scores)
    assert gradient.tolist() == [[0, 0, 0], [-0.5, 0.5, 0]]


def test_a_text_that_stands_there_several_times_is_one_document():
    generator = torch.Generator().manual_seed(2)
    few = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    positives, known = torch.tensor([[5, 0], [7, 5]]), torch.tensor([[0], [9]])
    once = cross_entropy_in_batch(few, torch.tensor([5, 7, 9]), positives, known)
    many = cross_entropy_in_batch(few[:, [0, 1, 0, 2, 1]], torch.tensor([5, 7, 5, 9, 7]), positives, known)
    assert torch.equal(once.value, many.value)
    first = functional.cross_entropy(few[0], torch.tensor(0))
    # the second row has two positives, and 9 is a known one that is left out: no negative is left
    assert once.value.item() == pytest.approx(first.item() / 2, rel=1e-12)


def test_late_interaction_sums_the_largest_products():
    generator = torch.Generator().manual_seed(3)
    query, document = (torch.randn(n, length, 4, generator=generator) for n, length in ((2, 3), (5, 6)))
    query[1, 2] = 0  # padding
    mask = torch.ones(5, 6)
    mask[3, 2:] = 0
    found = scores_between(query, document, mask)
    for row in range(2):
        for column in range(5):
            products = query[row] @ document[column, mask[column] != 0].T
            assert found[row, column].item() == pytest.approx(products.amax(1).sum().item(), rel=1e-5)
