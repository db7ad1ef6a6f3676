"""The built-in losses give TextBrewer's numbers, and say what shapes they take."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from kdspec.api.kinds.context import BuildContext
from kdspec.builtins.losses import feature_losses, logit_losses
from kdspec.builtins.losses.feature_losses import AttentionCe, AttentionMse, Mmd

LOSSES = {c.name: c for module in (logit_losses, feature_losses) for c in module.kdspec_components()}
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])


def gen(shape, a, b):
    """The inputs of TextBrewer's golden values."""
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    return (2 * torch.sin(a * index + b)).reshape(shape)


HIDDEN = gen((2, 4, 6), 0.31, 0.2), gen((2, 4, 6), 0.53, 0.4)
PAIRS = (HIDDEN[0], gen((2, 4, 6), 0.37, 0.5)), (HIDDEN[1], gen((2, 4, 6), 0.41, 0.6))
SCORES = gen((2, 3, 4, 4), 0.29, 0.1), gen((2, 3, 4, 4), 0.43, 0.7)
CLIP = {"clip_negative": True}
OF_SCORES = {"from_scores": True, "clip_negative": True}


@pytest.mark.parametrize(
    ("name", "temperature", "expected"),
    [
        ("ce", 1.0, 2.3182808280174827),
        ("ce", 8.0, 1.6237075916718826),
        ("mse", 1.0, 4.947163824349768),
        ("mse", 8.0, 0.07729943475546512),
    ],
)
def test_logit_losses_give_textbrewers_values(name, temperature, expected):
    loss = LOSSES[name]().build(BuildContext())
    student, teacher = gen((4, 5), 0.7, 0.1), gen((4, 5), 0.9, 0.3)
    assert loss(student, teacher, temperature=temperature).value.item() == pytest.approx(expected, rel=1e-10)


def test_kl_is_the_cross_entropy_without_the_teachers_entropy_times_temperature_squared():
    student, teacher = gen((4, 5), 0.7, 0.1), gen((4, 5), 0.9, 0.3)
    ce, kl = (LOSSES[name]().build(BuildContext()) for name in ("ce", "kl"))
    entropy = ce(teacher, teacher, temperature=3.0).value
    expected = 9 * (ce(student, teacher, temperature=3.0).value - entropy)
    assert kl(student, teacher, temperature=3.0).value.item() == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize(
    ("name", "parameters", "inputs", "plain", "masked"),
    [
        ("hidden_mse", {}, HIDDEN, 4.4606201164574175, 3.3997522242577616),
        ("cos", {}, HIDDEN, 1.1214207802506624, 0.8237019964904955),
        ("pkd", {}, HIDDEN, 0.2175401129066989, 0.2175401129066989),
        ("fsp", {}, PAIRS, 1.9953650712566737, 3.589805681463201),
        ("gram", {}, PAIRS, 1.9953650712566737, 3.589805681463201),
        ("mmd", {}, PAIRS, 5.144157100829459, 4.175531102049157),
        ("nst", {}, PAIRS, 5.144157100829459, 4.175531102049157),
        ("mmd", {"scale": "length"}, PAIRS, 5.144157100829459, 9.394944979610603),
        ("attention_mse", CLIP, SCORES, 1.1938270023369195, 4.320848803706772),
        ("attention_mse_sum", CLIP, SCORES, 7.129654379387883, 26.3070291461977),
        ("attention_ce", OF_SCORES, SCORES, 0.9559623254121284, 1.0107696035478966),
        ("attention_ce_mean", OF_SCORES, SCORES, 0.9076452928322729, 0.9983263565728697),
    ],
)
def test_feature_losses_give_textbrewers_values(name, parameters, inputs, plain, masked):
    loss = LOSSES[name](**parameters).build(BuildContext())
    assert loss(*inputs, mask=None).value.item() == pytest.approx(plain, rel=1e-8)
    assert loss(*inputs, mask=MASK).value.item() == pytest.approx(masked, rel=1e-8)


def test_two_layer_losses_are_those_that_take_pairs():
    assert {name for name, c in LOSSES.items() if getattr(c, "arity", 1) == 2} == {"fsp", "gram", "mmd", "nst"}


def test_equal_widths_are_needed_by_losses_that_compare_hidden_states_number_by_number():
    needing = {name for name, c in LOSSES.items() if getattr(c, "same_width", False)}
    assert needing == {"hidden_mse", "cos", "pkd", "fsp", "gram"}


def test_equal_heads_are_needed_by_attention_losses_that_compare_head_by_head():
    assert {name for name, c in LOSSES.items() if getattr(c, "same_heads", False)} == {"attention_mse", "attention_ce"}


def test_mmd_compares_models_of_different_widths():
    narrow, wide = torch.randn(2, 4, 6), torch.randn(2, 4, 10)
    assert Mmd().build(BuildContext())((narrow, narrow), (wide, wide), mask=MASK).value.isfinite()


def test_attention_mse_does_not_clip_by_default():
    default, clipped = AttentionMse().build(BuildContext()), AttentionMse(**CLIP).build(BuildContext())
    assert default(*SCORES, mask=None).value > clipped(*SCORES, mask=None).value


def test_clipping_without_scores_is_refused_at_its_key():
    with pytest.raises(ValidationError) as caught:
        AttentionCe(clip_negative=True)
    [error] = caught.value.errors()
    assert error["loc"] == ("clip_negative",)
    assert "from_scores: true" in error["msg"]


def test_an_unknown_scale_is_refused():
    with pytest.raises(ValidationError, match="width"):
        Mmd.model_validate({"scale": "height"})
