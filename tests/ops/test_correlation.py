"""Correlations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef

from kdspec.ops.correlation import matthews, pearson, ranks

pairs = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=12)


@given(pairs=pairs)
def test_they_are_those_of_torchmetrics(pairs):
    x, y = torch.tensor(pairs, dtype=torch.float64).T
    if len(x.unique()) == 1 or len(y.unique()) == 1:
        assert pearson(x, y).isnan()
        return
    assert pearson(x, y).item() == pytest.approx(pearson_corrcoef(x, y).item(), abs=1e-6)
    assert pearson(ranks(x), ranks(y)).item() == pytest.approx(spearman_corrcoef(x, y).item(), abs=1e-5)


def test_equal_values_share_a_rank():
    assert ranks(torch.tensor([3.0, 1.0, 3.0, 0.0])).tolist() == [3.5, 2.0, 3.5, 1.0]


def test_a_constant_that_rounds_is_one():
    assert pearson(torch.full((3,), 0.1).double(), torch.arange(3.0).double()).isnan()


def correlation_of_columns(truth, predicted):
    """Gorodkin's definition: the covariances of the one-hot columns, summed over the classes, in float64."""
    classes = sorted({*truth, *predicted})
    one, other = (
        np.array([[value == each for each in classes] for value in values], float) for values in (truth, predicted)
    )
    one, other = one - one.mean(0), other - other.mean(0)
    scale = (one**2).sum() * (other**2).sum()
    return (one * other).sum() / scale**0.5 if scale > 1e-12 else 0.0


@given(data=st.data(), classes=st.integers(2, 6), size=st.integers(1, 60))
def test_that_of_classes_is_the_correlation_of_their_one_hot_columns(data, classes, size):
    few = st.lists(st.integers(0, classes - 1), min_size=1, max_size=3, unique=True).flatmap(
        lambda names: st.lists(st.sampled_from(names), min_size=size, max_size=size)
    )
    truth, predicted = data.draw(few), data.draw(few)
    found = matthews(torch.tensor(truth), torch.tensor(predicted))
    assert found == pytest.approx(correlation_of_columns(truth, predicted), abs=1e-12)


@given(
    data=st.data(),
    constant=st.integers(0, 200),
    classes=st.integers(2, 300),
    size=st.integers(1, 400),
    turned=st.booleans(),
)
def test_that_of_a_constant_is_exactly_zero(data, constant, classes, size, turned):
    varied = torch.tensor(data.draw(st.lists(st.integers(0, classes - 1), min_size=size, max_size=size)))
    lists = (torch.full((size,), constant), varied)
    assert matthews(*(reversed(lists) if turned else lists)) == 0


@pytest.mark.parametrize(
    ("truth", "predicted", "recorded"),
    [
        ([0] * 1 + [1] * 99, [1] * 100, 0.0),
        ([0] * 6 + [1] * 54, [1] * 60, 0.0),
        ([0] * 6 + [1] * 54, [0] * 2 + [1] * 4 + [0] * 4 + [1] * 50, 7 / 27),
        ([0] * 322 + [1] * 721, [1] * 1043, 0.0),
        ([1] * 100, [0] + [1] * 99, 0.0),
        ([1], [1], 0.0),
        ([1], [0], 0.0),
        ([0, 1, 2, 2], [0, 1, 1, 2], 0.7),
        ([0, 1] * 30, [1, 0] * 30, -1.0),
    ],
)
def test_that_of_classes_is_what_scikit_learn_gives(truth, predicted, recorded):
    assert matthews(torch.tensor(truth), torch.tensor(predicted)) == pytest.approx(recorded, abs=1e-12)


def test_that_of_many_classes_needs_no_table_of_them():
    truth = torch.arange(100_000)
    assert matthews(truth, truth) == 1
    assert matthews(truth, truth.roll(1)) < 0


def test_that_of_no_rows_is_zero():
    nothing = torch.empty(0, dtype=torch.int64)
    assert matthews(nothing, nothing) == 0
