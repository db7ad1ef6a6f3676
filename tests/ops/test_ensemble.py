"""Means over teachers, against formulas written out for one row and class at a time."""

from __future__ import annotations

import math

import pytest
import torch

from kdspec.ops.ensemble import confidence, mean_logits, mean_probabilities


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


TEACHERS = [draw(4, 3, seed=number) for number in range(3)]
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def softmax(row):
    parts = [math.exp(value) for value in row]
    return [part / sum(parts) for part in parts]


def test_the_mean_of_logits_is_that_of_the_raw_logits():
    found = mean_logits(TEACHERS)
    for row in range(4):
        for c in range(3):
            assert float(found[row, c]) == pytest.approx(sum(float(t[row, c]) for t in TEACHERS) / 3, abs=1e-15)
    weighted = mean_logits(TEACHERS, WEIGHTS)
    assert torch.allclose(weighted, 0.5 * TEACHERS[0] + 0.3 * TEACHERS[1] + 0.2 * TEACHERS[2], atol=1e-15)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("temperature", [1.0, 4.0, torch.tensor([1.0, 2.0, 3.0, 0.5], dtype=torch.float64)])
def test_the_softmax_at_the_temperature_is_the_mean_of_the_probabilities(weights, temperature):
    found = mean_probabilities(TEACHERS, weights, temperature=temperature)
    shares = [1 / 3] * 3 if weights is None else weights.tolist()
    for row in range(4):
        t = temperature if isinstance(temperature, float) else float(temperature[row])
        each = [softmax([value / t for value in teacher[row].tolist()]) for teacher in TEACHERS]
        expected = [sum(w * p[c] for w, p in zip(shares, each, strict=True)) for c in range(3)]
        assert (found[row] / t).softmax(-1).tolist() == pytest.approx(expected, abs=1e-14)
        assert (found[row] / t).exp().sum().item() == pytest.approx(1, abs=1e-14)


def test_confidence_is_that_of_zhang_et_al():
    labels = torch.tensor([0, 2, 1, 1])
    found = confidence(TEACHERS, labels)
    for row in range(4):
        wrong = [-math.log(softmax(teacher[row].tolist())[labels[row]]) for teacher in TEACHERS]
        expected = [(1 - part) / 2 for part in softmax(wrong)]
        assert found[:, row].tolist() == pytest.approx(expected, abs=1e-14)
    assert torch.allclose(found.sum(0), torch.ones(4, dtype=torch.float64))


def test_without_a_label_the_entropy_replaces_the_cross_entropy():
    rows = [softmax(teacher[0].tolist()) for teacher in TEACHERS]
    entropies = [-sum(p * math.log(p) for p in row) for row in rows]
    expected = [(1 - part) / 2 for part in softmax(entropies)]
    assert confidence(TEACHERS)[:, 0].tolist() == pytest.approx(expected, abs=1e-14)
    mixed = confidence(TEACHERS, torch.tensor([-100, 2, 1, -100]))
    assert mixed[:, 0].tolist() == pytest.approx(expected, abs=1e-14)
    assert torch.equal(mixed[:, 1], confidence(TEACHERS, torch.tensor([0, 2, 1, 1]))[:, 1])
    assert torch.equal(confidence(TEACHERS, draw(4)), confidence(TEACHERS))  # values to be met are no classes


def test_the_teacher_that_knows_the_label_counts_more():
    sure, lost = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 9.0]])
    weights = confidence([sure, lost], torch.tensor([0]))
    assert weights[0, 0] > 0.99
    assert confidence([sure, torch.zeros(1, 2)])[0, 0] > 0.6


def test_one_teacher_is_itself():
    (only,) = TEACHERS[:1]
    assert torch.equal(confidence([only]), torch.ones(1, 4, dtype=torch.float64))
    assert torch.equal(mean_logits([only]), only)
    assert torch.allclose(mean_probabilities([only], temperature=2.0).softmax(-1), only.softmax(-1))


def test_a_class_that_is_ruled_out_makes_no_nan():
    ruled = TEACHERS[0].clone()
    ruled[:, 0] = -torch.inf
    together = [ruled, TEACHERS[1]]
    assert mean_logits(together)[:, 0].isneginf().all()
    assert not mean_logits(together, torch.tensor([0.0, 1.0])).isinf().any()
    assert mean_probabilities(together, temperature=2.0).isfinite().all()
    for labels in (None, torch.tensor([0, 0, 1, -100])):
        weights = confidence(together, labels)
        assert weights.isfinite().all()
        assert torch.allclose(weights.sum(0), torch.ones(4, dtype=torch.float64))
    both = confidence([ruled, ruled], torch.zeros(4, dtype=torch.int64))
    assert both.tolist() == [[0.5] * 4] * 2
    assert mean_probabilities([ruled, ruled], temperature=2.0)[:, 0].isneginf().all()


def test_tokens_have_weights_of_their_own():
    tokens = [draw(2, 5, 3, seed=number) for number in range(2)]
    weights = confidence(tokens, torch.randint(0, 3, (2, 5), generator=torch.Generator().manual_seed(0)))
    assert weights.shape == (2, 2, 5)
    assert mean_logits(tokens, weights).shape == (2, 5, 3)
    assert mean_probabilities(tokens, weights, temperature=torch.full((2, 5), 2.0)).shape == (2, 5, 3)


def test_half_types_are_widened_and_nothing_has_a_gradient():
    half = [teacher.to(torch.bfloat16).requires_grad_() for teacher in TEACHERS]
    for found in (mean_logits(half), mean_probabilities(half, temperature=2.0), confidence(half)):
        assert found.dtype == torch.float32
        assert not found.requires_grad


def test_teachers_of_different_shapes_are_refused():
    with pytest.raises(AssertionError, match=r"differ in shape: \(4, 2\), \(4, 3\)"):
        mean_logits([TEACHERS[0], TEACHERS[1][:, :2]])
    with pytest.raises(AssertionError, match="weights of shape"):
        mean_logits(TEACHERS, torch.ones(2))
