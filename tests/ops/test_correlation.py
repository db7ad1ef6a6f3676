"""Correlations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef

from kdspec.ops.correlation import pearson, ranks

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
