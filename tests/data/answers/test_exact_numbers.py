"""Numbers of float32 in JSON: the same bits, in few digits."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from kdspec.data.answers.exact_numbers import exact
from kdspec.diagnostics.fault import Fault


def test_random_bits_are_read_back_as_they_were():
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    numbers = bits.view(np.float32)
    numbers = numbers[np.isfinite(numbers)]
    read = np.array(json.loads(json.dumps(exact(torch.from_numpy(numbers))))).astype(np.float32)
    assert read.tobytes() == numbers.tobytes()


def test_they_have_few_digits():
    assert json.dumps(exact(torch.tensor([0.1, -0.0, 1 / 3, 16777216.0, 1e-45]))) == (
        "[0.1, -0.0, 0.33333334, 16777216.0, 1e-45]"
    )


def test_the_shape_is_kept():
    assert exact(torch.tensor([[1.5, 2.0], [3.0, 4.0]])) == [[1.5, 2.0], [3.0, 4.0]]
    assert exact(torch.tensor(2.5, dtype=torch.float64)) == 2.5


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_what_json_does_not_have_is_refused(wrong):
    with pytest.raises(Fault, match="not finite"):
        exact(torch.tensor([1.0, wrong]))
