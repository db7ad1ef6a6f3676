"""Values of a row as bytes and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdspec.engine.teacher_cache.codec import Codec, array
from kdspec.engine.teacher_cache.slots import TOKENS, Slot, Uncacheable

HIDDEN = Slot("hidden", "layer", 2, "float32", (TOKENS, 12), "inputs")
ATTENTION = Slot("attention", "layer", 0, "float32", (2, TOKENS, TOKENS), "inputs")
LOGITS = Slot("logits", "whole", 0, "float32", (40,))


def back(codec, slot, value, tokens=5):
    data = codec.encode(slot, value)
    size = int(codec.sizes(slot, np.array([tokens]))[0])
    assert size % 8 == 0
    assert size - 8 < len(data) <= size
    found = codec.decode(slot, memoryview(b"12345678" + data), 8, tokens)
    dtype = codec.decoded_type(slot)
    tensor = torch.from_numpy(found.copy())
    return tensor.view(dtype) if dtype is torch.bfloat16 else tensor.to(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16", "int64", "bool"])
@pytest.mark.parametrize("slot", [HIDDEN, ATTENTION, LOGITS], ids=lambda slot: slot.feature)
def test_exact_values_come_back_to_the_bit(dtype, slot):
    slot = Slot(slot.feature, slot.place, slot.index, dtype, slot.shape, slot.mask)
    value = (torch.randn(slot.of(5), generator=torch.Generator().manual_seed(1)) * 9).to(getattr(torch, dtype))
    found = back(Codec(), slot, value)
    assert found.dtype is value.dtype
    assert torch.equal(found, value)


def test_nan_and_infinity_come_back():
    value = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0] * 10)
    assert array(back(Codec(), LOGITS, value)).tobytes() == array(value).tobytes()


@pytest.mark.parametrize(("dtype", "error"), [("float16", 1e-3), ("int8", 1e-2)])
@pytest.mark.parametrize("slot", [HIDDEN, ATTENTION], ids=lambda slot: slot.feature)
def test_fewer_bits_are_close_for_every_token(dtype, error, slot):
    value = torch.randn(slot.of(5), generator=torch.Generator().manual_seed(1))
    value[..., 0, :] *= 1000  # one token with large numbers spoils no other
    found = back(Codec(dtype), slot, value)
    largest = value.abs().amax(-1, keepdim=True)
    assert ((found - value).abs() <= error * largest).all()
    assert len(Codec(dtype).encode(slot, value)) < 0.6 * len(Codec().encode(slot, value))


def test_logits_have_half_precision_at_least():
    assert Codec("int8").kind(LOGITS) == "half"


def test_zeros_have_a_scale():
    assert torch.equal(back(Codec("int8"), HIDDEN, torch.zeros(5, 12)), torch.zeros(5, 12))


@pytest.mark.parametrize("codec", [Codec("float16"), Codec("int8")], ids=["float16", "int8"])
def test_what_does_not_fit_is_refused(codec):
    with pytest.raises(Uncacheable, match="`hidden` has numbers that are"):
        codec.encode(HIDDEN, torch.full((5, 12), torch.inf if codec.dtype == "int8" else 1e6))


def test_whole_numbers_stay_as_they_are():
    assert Codec("int8", 2).kind(Slot("logits", "whole", 0, "int64", (40,))) == "raw"


def test_the_largest_logits_keep_their_probabilities():
    value = torch.randn(40, generator=torch.Generator().manual_seed(1)) * 3
    found = back(Codec(top_k=6), LOGITS, value)
    mine, theirs = found.softmax(-1), value.softmax(-1)
    largest = value.topk(6).indices
    assert torch.allclose(mine[largest], theirs[largest], atol=1e-6)
    others = torch.ones(40, dtype=torch.bool).index_fill(0, largest, False)
    assert mine[others].std() < 1e-7
    assert torch.isclose(mine[others].sum(), theirs[others].sum(), atol=1e-6)
    assert Codec(top_k=20).kind(LOGITS) == "raw"


@pytest.mark.parametrize("codec", [Codec(), Codec("float16"), Codec("int8"), Codec(top_k=2)])
def test_a_row_without_tokens_takes_no_room(codec):
    tokens = Slot("logits", "whole", 0, "float32", (TOKENS, 40), "logits")
    assert codec.encode(tokens, torch.zeros(0, 40)) == b""
    assert codec.sizes(tokens, np.array([0])) == 0
    assert codec.decode(tokens, memoryview(b""), 0, 0).shape == (0, 40)
