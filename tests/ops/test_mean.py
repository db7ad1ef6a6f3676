"""A mean in two parts."""

from __future__ import annotations

import pytest
import torch

from kdspec.ops.mean import Mean


@pytest.mark.parametrize("count", [4.0, torch.tensor(4), torch.tensor(4.0)])
def test_the_value_is_the_quotient(count):
    total = torch.tensor(6.0, requires_grad=True)
    value = Mean(total, count).value
    value.backward()
    assert value == 1.5
    assert value.dtype == torch.float32
    assert total.grad == 0.25


@pytest.mark.parametrize("count", [0.0, torch.tensor(0), torch.tensor(0.0)])
def test_the_mean_of_nothing_is_zero_and_can_be_differentiated(count):
    parameter = torch.ones(3, requires_grad=True)
    value = Mean((parameter * 0).sum(), count).value
    value.backward()
    assert value == 0
    assert parameter.grad.tolist() == [0, 0, 0]


def test_a_count_keeps_the_precision_of_the_total():
    total = torch.tensor(1.0, dtype=torch.float64)
    many = 2**24 + 1  # not a float32
    for count in (float(many), torch.tensor(many)):
        assert Mean(total, count).value.item() == 1 / many


def test_a_total_is_a_scalar():
    with pytest.raises(AssertionError, match=r"not of shape \(2,\)"):
        Mean(torch.ones(2), 1.0)
