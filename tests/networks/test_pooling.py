"""One vector of the vectors of a row's tokens."""

import pytest
import torch

from kdspec.networks.pooling import pooled

STATES = torch.tensor([[[1.0, -2.0], [3.0, 0.0], [9.0, 9.0]], [[5.0, 5.0], [1.0, 7.0], [2.0, -1.0]]])
MASK = torch.tensor([[1, 1, 0], [0, 1, 1]])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("mean", [[2.0, -1.0], [1.5, 3.0]]),
        ("first", [[1.0, -2.0], [1.0, 7.0]]),
        ("last", [[3.0, 0.0], [2.0, -1.0]]),
        ("max", [[3.0, 0.0], [2.0, 7.0]]),
    ],
)
def test_padding_on_either_side_is_left_out(how, expected):
    assert pooled(STATES, MASK, how).tolist() == expected
    spoiled = torch.where(MASK[..., None] != 0, STATES, torch.nan)
    assert pooled(spoiled, MASK, how).tolist() == expected


def test_without_a_mask_every_token_counts():
    assert pooled(STATES, None, "mean")[0].tolist() == pytest.approx([13 / 3, 7 / 3])


def test_a_mean_of_half_precision_is_summed_in_float32():
    states = torch.full((1, 5000, 1), 0.1, dtype=torch.bfloat16)
    assert pooled(states, None, "mean").dtype == torch.bfloat16
    assert pooled(states, None, "mean").item() == states[0, 0, 0].item()
