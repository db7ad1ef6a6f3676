"""Logits of merged classes against sums of probabilities in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdspec.ops.merged_classes import merged_logits


@given(st.data(), st.integers(2, 9), st.sampled_from([(), (5,), (2, 3)]))
def test_the_probabilities_of_merged_classes_add_up(data, classes, shape):
    order = data.draw(st.permutations(range(classes)))
    ends = sorted(data.draw(st.sets(st.integers(1, classes - 1), max_size=classes - 1)))
    groups = [order[start:end] for start, end in zip([0, *ends], [*ends, classes], strict=True)]
    logits = torch.randn(*shape, classes, generator=torch.Generator().manual_seed(classes), dtype=torch.float64) * 9
    found = merged_logits(logits, groups).softmax(-1)
    one_by_one = logits.softmax(-1)
    expected = torch.stack([sum(one_by_one[..., member] for member in group) for group in groups], -1)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_classes_that_are_alone_keep_their_bits(dtype):
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = merged_logits(logits, [(4,), (0, 2), (1,), (3,)])
    assert found.dtype == dtype
    assert torch.equal(found[:, [0, 2, 3]], logits[:, [4, 1, 3]])
    expected = logits[:, [0, 2]].double().exp().sum(-1).log()
    assert torch.allclose(found[:, 1].double(), expected, rtol=4 * torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)


def test_classes_of_probability_zero_are_no_nan():
    logits = torch.tensor([[0.0, -torch.inf, -torch.inf, 1.0]])
    found = merged_logits(logits, [(0, 1), (1, 2), (3,)])
    assert found.tolist() == [[0.0, -torch.inf, 1.0]]


def test_a_gradient_reaches_all_members():
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: merged_logits(z, [(0, 3), (1,), (2,)]), logits)
