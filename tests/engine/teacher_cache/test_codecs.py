"""Values of a sample as bytes and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdspec.engine.teacher_cache.codec_choice import CodecChoice
from kdspec.engine.teacher_cache.codecs import array
from kdspec.engine.teacher_cache.slots import TOKENS, Slot, Uncacheable

HIDDEN = Slot("hidden", "layer", 2, "float32", (TOKENS, 12), "inputs")
ATTENTION = Slot("attention", "layer", 0, "float32", (2, TOKENS, TOKENS), "inputs")
LOGITS = Slot("logits", "whole", 0, "float32", (40,))


def parts(choice, slot, value, tokens=5):
    """The tensors of a value after a round trip through bytes of exactly the predicted size."""
    codec = choice.codec(slot)
    data = codec.encode(slot, value)
    assert len(data) == codec.size(slot, tokens)
    found = codec.decode(slot, memoryview(b"1234567" + data), 7, tokens)
    made = []
    for part, of in zip(codec.parts(slot), found, strict=True):
        assert of.shape == part.of(tokens)
        tensor = torch.from_numpy(of.copy())
        made.append(tensor.view(part.dtype) if part.dtype is torch.bfloat16 else tensor.to(part.dtype))
    return codec, made


def back(choice, slot, value, tokens=5):
    codec, made = parts(choice, slot, value, tokens)
    return codec.put_together(slot, made)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16", "int64", "bool"])
@pytest.mark.parametrize("slot", [HIDDEN, ATTENTION, LOGITS], ids=lambda slot: slot.feature)
def test_exact_values_come_back_to_the_bit(dtype, slot):
    slot = Slot(slot.feature, slot.place, slot.index, dtype, slot.shape, slot.mask)
    value = (torch.randn(slot.of(5), generator=torch.Generator().manual_seed(1)) * 9).to(getattr(torch, dtype))
    found = back(CodecChoice(), slot, value)
    assert found.dtype is value.dtype
    assert torch.equal(found, value)


def test_nan_and_infinity_come_back():
    value = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0] * 10)
    assert array(back(CodecChoice(), LOGITS, value)).tobytes() == array(value).tobytes()


@pytest.mark.parametrize(("dtype", "error"), [("float16", 1e-3), ("int8", 1e-2)])
@pytest.mark.parametrize("slot", [HIDDEN, ATTENTION], ids=lambda slot: slot.feature)
def test_fewer_bits_are_close_for_every_token(dtype, error, slot):
    value = torch.randn(slot.of(5), generator=torch.Generator().manual_seed(1))
    value[..., 0, :] *= 1000  # one token with large numbers spoils no other
    found = back(CodecChoice(dtype), slot, value)
    largest = value.abs().amax(-1, keepdim=True)
    assert ((found - value).abs() <= error * largest).all()
    assert CodecChoice(dtype).codec(slot).size(slot, 5) < 0.6 * CodecChoice().codec(slot).size(slot, 5)


def test_logits_have_half_precision_at_least():
    assert CodecChoice("int8").codec(LOGITS).name == "half"


def test_zeros_have_a_scale():
    assert torch.equal(back(CodecChoice("int8"), HIDDEN, torch.zeros(5, 12)), torch.zeros(5, 12))


@pytest.mark.parametrize("choice", [CodecChoice("float16"), CodecChoice("int8")], ids=["float16", "int8"])
def test_numbers_that_a_codec_cannot_represent_are_refused(choice):
    with pytest.raises(Uncacheable, match=r"`hidden` has (non-finite numbers|numbers too large)"):
        choice.codec(HIDDEN).encode(HIDDEN, torch.full((5, 12), torch.inf if choice.dtype == "int8" else 1e6))


def test_whole_numbers_stay_as_they_are():
    assert CodecChoice("int8", 2).codec(Slot("logits", "whole", 0, "int64", (40,))).name == "dense"


@pytest.mark.parametrize("temperature", [1.0, 2.0, 8.0])
def test_the_largest_logits_and_all_others_together_keep_their_probabilities(temperature):
    value = torch.randn(3, 40, generator=torch.Generator().manual_seed(1)) * 3
    slot = Slot("logits", "whole", 0, "float32", (TOKENS, 40), "logits")
    found = back(CodecChoice(top_k=6, temperatures=(1.0, 2.0, 8.0)), slot, value, 3)
    theirs, largest = (value.double() / temperature).softmax(-1), value.topk(6).indices
    assert torch.equal(found.ids, largest)
    expected = torch.cat([theirs.gather(-1, largest), 1 - theirs.gather(-1, largest).sum(-1, keepdim=True)], -1)
    assert torch.allclose(found.log_probabilities(temperature).exp(), expected.float(), atol=1e-6)
    assert found.classes == 40
    assert CodecChoice(top_k=20).codec(LOGITS).name == "dense"


def zipf(classes=151_936):
    """Logits of a sharp teacher over a large vocabulary: probabilities that fall as a power of the rank."""
    return -2.5 * torch.arange(1, classes + 1, dtype=torch.float64).log()


def test_the_rest_at_a_temperature_of_2_is_exact():
    """Spread over the vocabulary and tempered afterwards it would have 0.81 of the probability, not 0.28."""
    value, at = zipf().float(), 2.0
    slot = Slot("logits", "whole", 0, "float32", (len(value),))
    found = back(CodecChoice(top_k=64, temperatures=(at,)), slot, value)
    true = (zipf() / at).softmax(-1)[64:].sum().item()
    assert found.log_probabilities(at).exp()[-1].item() == pytest.approx(true, rel=1e-4)
    one = value.double().softmax(-1)
    spread = one.clone()
    spread[64:] = one[64:].sum() / (len(value) - 64)
    wrong = (spread.log() / at).softmax(-1)[64:].sum().item()
    assert (round(true, 2), round(wrong, 2)) == (0.28, 0.81)


def test_the_largest_logits_take_eight_bytes_each_and_four_for_each_temperature():
    tokens = Slot("logits", "whole", 0, "float32", (TOKENS, 1000), "logits")
    codec = CodecChoice(top_k=64, temperatures=(1.0, 2.0)).codec(tokens)
    assert codec.size(tokens, 10) == 10 * (64 * 8 + 2 * 4)


@pytest.mark.parametrize(
    "choice", [CodecChoice(), CodecChoice("float16"), CodecChoice("int8"), CodecChoice(top_k=2, temperatures=(1.0,))]
)
def test_a_sample_without_tokens_takes_no_space(choice):
    tokens = Slot("logits", "whole", 0, "float32", (TOKENS, 40), "logits")
    codec = choice.codec(tokens)
    assert codec.encode(tokens, torch.zeros(0, 40)) == b""
    assert codec.size(tokens, 0) == 0
    found = codec.decode(tokens, memoryview(b""), 0, 0)
    assert all(isinstance(part, np.ndarray) and part.shape[0] == 0 for part in found)
