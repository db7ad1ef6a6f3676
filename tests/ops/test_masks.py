"""Masks: what they keep and how much that is."""

from __future__ import annotations

import pytest
import torch

from kdspec.ops import masks

MASK = torch.tensor([[0, 1, 1], [1, 0, 0]])


@pytest.mark.parametrize("mask", [MASK, MASK.bool(), MASK.float(), MASK * -5], ids=["int", "bool", "float", "other"])
def test_what_is_not_zero_is_kept_in_order(mask):
    tensor = torch.arange(12).reshape(2, 3, 2)
    assert masks.select(tensor, mask).tolist() == [[2, 3], [4, 5], [6, 7]]
    assert masks.select(tensor[..., 0], mask).tolist() == [2, 4, 6]
    assert masks.filled(tensor, mask, -1).tolist() == [[[-1, -1], [2, 3], [4, 5]], [[6, 7], [-1, -1], [-1, -1]]]
    assert (masks.tokens(mask, 2, 3), masks.pairs(mask, 2, 3)) == (3, 5)


def test_without_a_mask_all_is_kept():
    tensor = torch.ones(2, 3, 4)
    assert masks.filled(tensor, None) is tensor
    assert (masks.tokens(None, 2, 3), masks.pairs(None, 2, 3)) == (6.0, 18.0)


def test_a_selection_passes_gradients_on():
    tensor = torch.ones(2, 3, 1, requires_grad=True)
    masks.select(tensor, MASK).sum().backward()
    assert torch.equal(tensor.grad[..., 0], MASK.float())


def test_a_mask_of_another_shape_is_not_broadcast():
    with pytest.raises(AssertionError, match=r"\(1, 3\) does not select from \(2, 3, 2\)"):
        masks.select(torch.ones(2, 3, 2), MASK[:1])
    with pytest.raises(AssertionError, match=r"\(1, 3\) does not fit a tensor of shape \(2, 3, 2\)"):
        masks.filled(torch.ones(2, 3, 2), MASK[:1])


def test_positions_that_are_ruled_out_have_no_probability_and_no_gradient():
    logits = torch.tensor([[torch.nan, 1.0, 2.0], [3.0, torch.inf, torch.nan]], requires_grad=True)
    kept = masks.rule_out(logits, MASK)
    assert kept.tolist() == [[-torch.inf, 1.0, 2.0], [3.0, -torch.inf, -torch.inf]]
    kept.softmax(-1)[:, 0].sum().backward()
    assert logits.grad.tolist() == [[0.0] * 3] * 2
