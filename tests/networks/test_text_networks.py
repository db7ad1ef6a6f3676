"""The networks against torch's own packed GRU and a convolution row by row, and what padding does: nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from kdspec.networks.text_networks import BiGru, TextCnn

IDS = torch.tensor([[3, 1, 4, 1, 5], [2, 6, 5, 0, 0], [7, 0, 0, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])


def bigru(layers=2, *, tokens=False):
    torch.manual_seed(0)
    made = BiGru(vocabulary=9, embedding=4, hidden=3, layers=layers, dropout=0.5, classes=2, tokens=tokens)
    return made.double().eval()


def textcnn(kernels=(2, 3)):
    torch.manual_seed(0)
    return TextCnn(vocabulary=9, embedding=4, filters=3, kernels=kernels, dropout=0.5, classes=2).double().eval()


def test_a_layer_is_torchs_bidirectional_gru():
    made = bigru(layers=1)
    reference = nn.GRU(4, 3, batch_first=True, bidirectional=True).double()
    for suffix, direction in zip(("", "_reverse"), made.layers[0], strict=True):
        for name, parameter in direction.gru.named_parameters():
            getattr(reference, name + suffix).data.copy_(parameter.data)
    packed = pack_padded_sequence(made.embeddings(IDS), MASK.sum(1), batch_first=True, enforce_sorted=False)
    outputs, ends = reference(packed)
    expected, _ = pad_packed_sequence(outputs, batch_first=True)
    found = made(IDS, MASK)
    torch.testing.assert_close(found["hidden_states"][1], expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found["logits"], made.head(torch.cat([*ends], -1)), rtol=1e-12, atol=1e-12)


def test_a_convolution_is_that_of_the_row_alone():
    made = textcnn(kernels=(3,))
    (convolution,) = made.convolutions
    row = nn.functional.pad(made.embeddings(IDS[1, :3]).T, (1, 1))
    expected = convolution(row).relu().T
    found = made(IDS, MASK)
    torch.testing.assert_close(found["hidden_states"][1][1, :3], expected)
    torch.testing.assert_close(found["logits"][1], made.head(expected.amax(0)))


@pytest.mark.parametrize("made", [bigru(), bigru(tokens=True), textcnn(), textcnn((1, 4, 7))], ids=str)
def test_padding_does_not_matter_on_either_side(made):
    found = made(IDS, MASK)
    longer, mask = (nn.functional.pad(tensor, (0, 3), value=0) for tensor in (IDS, MASK))
    left, left_mask = longer.clone(), mask.clone()
    for row, length in enumerate(MASK.sum(1).tolist()):
        left[row], left_mask[row] = longer[row].roll(8 - length), mask[row].roll(8 - length)
    for ids, kept in ((longer.masked_fill(mask == 0, 8), mask), (left, left_mask)):
        other = made(ids, kept)
        if found["logits"].ndim == 2:
            torch.testing.assert_close(other["logits"], found["logits"])
        for mine, theirs in zip(found["hidden_states"], other["hidden_states"], strict=True):
            torch.testing.assert_close(theirs[kept != 0], mine[MASK != 0])
            assert not theirs[kept == 0].any()


@pytest.mark.parametrize("made", [bigru(), textcnn()], ids=["bigru", "textcnn"])
def test_without_a_mask_every_token_counts(made):
    torch.testing.assert_close(made(IDS)["logits"], made(IDS, torch.ones_like(IDS))["logits"])


def test_a_row_without_a_token_gives_numbers_all_the_same():
    for made in (bigru(), textcnn()):
        assert made(IDS, MASK * 0)["logits"].isfinite().all()


def test_shapes_are_known_without_contents():
    """Nothing in them depends on a value, so that a plan is rehearsed with their cost and memory."""
    with FakeTensorMode():
        for made in (
            BiGru(vocabulary=9, embedding=4, hidden=3, layers=1, dropout=0, classes=2, tokens=True),
            TextCnn(vocabulary=9, embedding=4, filters=3, kernels=[3], dropout=0, classes=2),
        ):
            ids = torch.zeros(2, 5, dtype=torch.long)
            assert made(ids, torch.ones_like(ids))["logits"].shape[0] == 2
