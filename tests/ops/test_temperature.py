"""Temperatures from logits."""

from __future__ import annotations

import math

import pytest
import torch

from kdspec.ops.temperature import MINIMUM, cwsm, flsw


def logits(*shape):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2)]


def reference(weights, base, beta):
    mean = sum(weights) / len(weights)
    return [base + beta * (mean - w) for w in weights]


def flsw_weight(s, t, gamma):
    norms = [math.sqrt(sum(x * x for x in row)) + 1e-4 for row in (s, t)]
    return (1 - sum(a * b for a, b in zip(s, t, strict=True)) / norms[0] / norms[1]) ** gamma


def cwsm_weight(s):
    exponentials = [math.exp(x) for x in s]
    return 1 / (max(exponentials) / sum(exponentials) + 1e-3)


@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 4)], ids=["rows", "tokens"])
def test_they_are_the_formulas_of_the_paper(shape):
    student, teacher = logits(*shape)
    rows = list(zip(student.reshape(-1, 4).tolist(), teacher.reshape(-1, 4).tolist(), strict=True))
    by_focus, by_confidence = flsw(student, teacher, 4, 0.5, 1.5), cwsm(student, 4, 0.5)
    assert by_focus.shape == by_confidence.shape == shape[:-1]
    assert not by_focus.requires_grad
    assert not by_confidence.requires_grad
    expected = reference([flsw_weight(s, t, 1.5) for s, t in rows], 4, 0.5)
    assert by_focus.flatten().tolist() == pytest.approx(expected, rel=1e-10)
    expected = reference([cwsm_weight(s) for s, _ in rows], 4, 0.5)
    assert by_confidence.flatten().tolist() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("minimum", [MINIMUM, 0.7])
def test_no_temperature_is_below_the_minimum(minimum):
    student, teacher = logits(8, 4)
    for temperatures in (
        flsw(student, teacher, 1, 100, 2, minimum=minimum),
        cwsm(student, 1, 100, minimum=minimum),
    ):
        assert temperatures.min() == minimum
        assert temperatures.max() > 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_and_classes_that_are_ruled_out_give_finite_temperatures(dtype):
    student, teacher = (x.detach().mul(1e4).to(dtype) for x in logits(8, 4))
    teacher[:, 1] = -torch.inf
    teacher[3] = 0
    for temperatures in (flsw(student, teacher, 4, 1, 0.5), cwsm(student, 4, 1), flsw(student, student, 4, 1, 0.5)):
        assert temperatures.dtype == torch.float32
        assert temperatures.isfinite().all()


def test_logits_of_other_classes_are_refused():
    with pytest.raises(AssertionError, match=r"\(2, 3\), teacher logits of shape \(2, 4\)"):
        flsw(torch.ones(2, 3), torch.ones(2, 4), 4, 1, 1)
