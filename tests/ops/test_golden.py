"""The golden values of TextBrewer: its numbers for inputs that anyone can compute, in float64."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from kdspec.ops import attention, features
from kdspec.ops.divergence import cross_entropy_soft, mse_logits
from kdspec.ops.probability_shift import probability_shift
from kdspec.ops.temperature import cwsm, flsw


def gen(shape, a, b):
    size = torch.Size(shape)
    return (2 * torch.sin(a * torch.arange(size.numel(), dtype=torch.float64) + b)).reshape(size)


l_s, l_t = gen((4, 5), 0.7, 0.1), gen((4, 5), 0.9, 0.3)
h_s, h_t = gen((2, 4, 6), 0.31, 0.2), gen((2, 4, 6), 0.53, 0.4)
h2_s, h2_t = gen((2, 4, 6), 0.37, 0.5), gen((2, 4, 6), 0.41, 0.6)
h_t8 = gen((2, 4, 8), 0.53, 0.4)
a_s, a_t = gen((2, 3, 4, 4), 0.29, 0.1), gen((2, 3, 4, 4), 0.43, 0.7)
a3_s, a3_t = gen((2, 4, 4), 0.29, 0.1), gen((2, 4, 4), 0.43, 0.7)
m = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])

mmd_length = partial(features.mmd, scale="length")
mse = partial(attention.attention_mse, clip_negative=True)
mse_sum = partial(attention.attention_mse_sum, clip_negative=True)
ce = partial(attention.attention_ce, from_scores=True, clip_negative=True)
ce_mean = partial(attention.attention_ce_mean, from_scores=True, clip_negative=True)


def assert_equal(actual, expected):
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("loss", "temperature", "expected"),
    [
        pytest.param(cross_entropy_soft, 1, 2.3182808280174827, id="G1"),
        pytest.param(cross_entropy_soft, 8, 1.6237075916718826, id="G2"),
        pytest.param(mse_logits, 1, 4.947163824349768, id="G3"),
        pytest.param(mse_logits, 8, 0.07729943475546512, id="G4"),
        pytest.param(cross_entropy_soft, flsw(l_s, l_t, base=4, beta=1, gamma=2), 1.765093457510168, id="G6"),
        pytest.param(cross_entropy_soft, cwsm(l_s, base=4, beta=1), 1.6579170365743132, id="G8"),
    ],
)
def test_logit_losses(loss, temperature, expected):
    assert_equal(loss(l_s, l_t, temperature).value, expected)


def test_temperatures_g5_g7():
    assert_equal(
        flsw(l_s, l_t, base=4, beta=1, gamma=2),
        [5.82697345307397, 5.096258051846348, 2.756630191775475, 2.320138303304207],
    )
    assert_equal(
        cwsm(l_s, base=4, beta=1), [3.4702787747588157, 4.275187111108002, 3.5916703218508275, 4.662863792282353]
    )


@pytest.mark.parametrize(
    ("loss", "student", "teacher", "unmasked", "masked"),
    [
        pytest.param(features.hidden_mse, h_s, h_t, 4.4606201164574175, 3.3997522242577616, id="G9"),
        pytest.param(features.cosine, h_s, h_t, 1.1214207802506624, 0.8237019964904955, id="G10"),
        pytest.param(features.pkd, h_s, h_t, 0.2175401129066989, 0.2175401129066989, id="G11"),
        pytest.param(features.fsp, (h_s, h2_s), (h_t, h2_t), 1.9953650712566737, 3.589805681463201, id="G12"),
        pytest.param(features.mmd, (h_s, h2_s), (h_t, h2_t), 5.144157100829459, 4.175531102049157, id="G13"),
        pytest.param(mmd_length, (h_s, h2_s), (h_t, h2_t), 5.144157100829459, 9.394944979610603, id="G13-release"),
        pytest.param(features.mmd, (h_s, h_s), (h_t8, h_t8), 0.8586958349937774, 1.2479469616891226, id="G14"),
        pytest.param(mmd_length, (h_s, h_s), (h_t8, h_t8), 0.8586958349937774, 3.152533526649726, id="G14-release"),
        pytest.param(mse, a_s, a_t, 1.1938270023369195, 4.320848803706772, id="G15"),
        pytest.param(mse_sum, a_s, a_t, 7.129654379387883, 26.3070291461977, id="G16"),
        pytest.param(ce, a_s, a_t, 0.9559623254121284, 1.0107696035478966, id="G17"),
        pytest.param(ce_mean, a_s, a_t, 0.9076452928322729, 0.9983263565728697, id="G18"),
        pytest.param(mse_sum, a3_s, a3_t, 1.481311367266146, 4.879859534857413, id="G19"),
        pytest.param(ce_mean, a3_s, a3_t, 1.1085883697451258, 1.2422355004443375, id="G20"),
    ],
)
def test_feature_losses(loss, student, teacher, unmasked, masked):
    assert_equal(loss(student, teacher).value, unmasked)
    assert_equal(loss(student, teacher, m).value, masked)
    assert_equal(loss(student, teacher, m.bool()).value, masked)


def test_probability_shift_of_rows_g21():
    labels = torch.tensor([0, 2, 4, 1])
    shifted = probability_shift(l_t, labels)
    assert torch.equal(shifted.argmax(-1), labels)
    assert_equal(
        shifted[0],
        [1.8640781719344526, 0.5910404133226791, 1.7264187332977474, 0.2822400161197344, -1.3755323183679475],
    )


def test_probability_shift_of_tokens_g22():
    teacher = gen((2, 3, 4), 0.9, 0.3)
    assert teacher.argmax(-1).tolist() == [[1, 3, 0], [3, 0, 2]]
    shifted = probability_shift(teacher, torch.tensor([[1, -100, 0], [-1, 3, 2]]))
    assert shifted.argmax(-1).tolist() == [[1, 3, 0], [3, 3, 2]]
