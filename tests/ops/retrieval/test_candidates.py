"""The loss of scored candidates."""

from __future__ import annotations

import torch
from torch.nn import functional

from kdspec.ops.retrieval.candidates import cross_entropy_of_positives


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
