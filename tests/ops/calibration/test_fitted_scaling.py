"""Temperature and vector scaling find what was put in, and the minimum that scipy finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar

from kdspec.ops.calibration.fitted_scaling import likelihood, temperature, unseen, vector


def drawn(scale=1.0, bias=0.0, rows=4000, classes=4, seed=0):
    """Logits, and labels that are drawn from the probabilities of scaled ones."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    shares = (logits * scale + bias).softmax(-1)
    return logits, torch.multinomial(shares, 1, generator=generator)[:, 0]


@pytest.mark.parametrize("true", [0.5, 1.0, 1.83, 6.0])
def test_a_temperature_is_found_again(true):
    logits, labels = drawn(1 / true)
    found = temperature(logits, labels)
    assert found == pytest.approx(true, rel=0.1)
    expected = minimize_scalar(
        lambda t: float(likelihood(logits / t, labels)), bounds=(0.05, 20), method="bounded", options={"xatol": 1e-10}
    )
    assert found == pytest.approx(expected.x, rel=1e-5)
    assert found == temperature(logits.clone(), labels.clone())


def test_the_temperature_of_decisions():
    generator = torch.Generator().manual_seed(1)
    logits = 4 * torch.randn(3000, generator=generator)
    labels = torch.bernoulli((logits / 2.5).sigmoid(), generator=generator)
    found = temperature(logits, labels)
    expected = minimize_scalar(
        lambda t: float(likelihood(logits.double() / t, labels)), bounds=(0.1, 20), method="bounded"
    )
    assert found == pytest.approx(2.5, rel=0.1)
    assert found == pytest.approx(expected.x, rel=1e-4)


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        ([[2.0, 0], [0, 1]], [0, 1]),  # all right: the surer, the likelier
        ([[2.0, 0], [0, 1]], [1, 0]),  # all wrong
        ([[0.0, 0], [0, 0]], [1, 0]),  # nothing is said
        ([[math.nan, 0], [0, 1]], [1, 0]),
    ],
)
def test_rows_that_determine_no_temperature(logits, labels):
    assert temperature(torch.tensor(logits), torch.tensor(labels)) is None
    assert vector(torch.tensor(logits), torch.tensor(labels)) is None


def test_a_scale_and_a_bias_of_each_class_are_found_again():
    scale, bias = torch.tensor([0.5, 1.0, 0.8, 0.3]).double(), torch.tensor([0.5, -0.5, 0.7, -0.7]).double()
    logits, labels = drawn(scale, bias, rows=20_000)
    found = vector(logits, labels)
    assert found is not None
    a, b = found
    assert a.tolist() == pytest.approx(scale.tolist(), abs=0.05)
    assert b.tolist() == pytest.approx(bias.tolist(), abs=0.1)
    assert b.sum().item() == pytest.approx(0, abs=1e-12)
    again = vector(logits, labels)
    assert again is not None
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))


def test_the_vector_is_the_minimum_that_scipy_finds():
    logits, labels = drawn(rows=300, seed=3)

    def loss(x):
        return float(likelihood(logits * torch.tensor(x[:4]) + torch.tensor(x[4:]), labels))

    a, b = vector(logits, labels)
    expected = minimize(loss, np.array([1.0] * 4 + [0.0] * 4), method="BFGS", options={"gtol": 1e-7})
    assert loss(np.concatenate([a, b])) == pytest.approx(expected.fun, abs=1e-8)
    assert loss(np.concatenate([a, b])) <= float(likelihood(logits / temperature(logits, labels), labels))


def test_the_vector_of_several_labels_leaves_unknown_decisions_out():
    generator = torch.Generator().manual_seed(5)
    logits = 3 * torch.randn(5000, 2, generator=generator, dtype=torch.float64)
    scale, bias = torch.tensor([0.4, 1.5]).double(), torch.tensor([1.0, -1.0]).double()
    labels = torch.bernoulli((logits * scale + bias).sigmoid(), generator=generator)
    known = torch.rand(logits.shape, generator=generator) < 0.8
    a, b = vector(logits, torch.where(known, labels, math.nan), known)
    assert a.tolist() == pytest.approx(scale.tolist(), abs=0.1)
    assert b.tolist() == pytest.approx(bias.tolist(), abs=0.15)


def test_a_class_that_no_row_has_determines_no_bias():
    logits, labels = drawn(rows=200)
    assert unseen(labels.clamp(max=2), 4) == [3]
    assert vector(logits, labels.clamp(max=2)) is None
    decisions, known = torch.tensor([[1.0, 0, 1], [1, 1, 0]]), torch.tensor([[True, True, True], [True, True, False]])
    assert unseen(decisions, 3, known) == [0, 2]
