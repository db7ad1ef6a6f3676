"""Calibration errors, coverage and what asking gives, against loops written from their definitions and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss

from kdspec.ops.calibration import trust
from kdspec.ops.calibration.trust import Ranked, asked, bins, coverage_at, coverage_curve, ece, ece_adaptive

CASES = 200


def ranked(confidence, right, dtype=torch.float64):
    return Ranked.of(torch.tensor(confidence, dtype=dtype), torch.tensor(right, dtype=torch.bool))


def random_case(seed):
    """Logits and labels of a model that is right more or less often, and sure of it or not; some confidences are equal."""
    draw = np.random.default_rng(seed)
    rows, classes = int(draw.integers(1, 150)), int(draw.integers(2, 9))
    labels = draw.integers(0, classes, rows)
    logits = draw.normal(size=(rows, classes)) * draw.choice([0.3, 2, 8])
    logits[np.arange(rows), labels] += draw.choice([0, 1, 4])
    if seed % 3 == 0:
        logits = logits.round()
    return logits, labels


def softmax(row):
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def loop_ece(confidence, right):
    total = 0.0
    for number in range(15):
        inside = [
            place
            for place, value in enumerate(confidence)
            if (value > number / 15 or (number == 0 and value == 0)) and value <= (number + 1) / 15
        ]
        if inside:
            accuracy = sum(right[place] for place in inside) / len(inside)
            sure = sum(confidence[place] for place in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - sure)
    return total


def loop_adaptive(confidence, right):
    pairs = sorted(zip(confidence, right, strict=True))
    mean = {
        value: sum(r for c, r in pairs if c == value) / sum(c == value for c, _ in pairs) for value in set(confidence)
    }
    total = 0.0
    for part in np.array_split(np.arange(len(pairs)), 15):
        if len(part):
            accuracy = sum(mean[pairs[place][0]] for place in part) / len(part)
            sure = sum(pairs[place][0] for place in part) / len(part)
            total += len(part) / len(pairs) * abs(accuracy - sure)
    return total


def loop_coverage(confidence, right):
    best = 0.0
    for limit in set(confidence):
        taken = [r for c, r in zip(confidence, right, strict=True) if c >= limit]
        if 100 * sum(taken) >= 95 * len(taken):
            best = max(best, len(taken) / len(confidence))
    return best


@pytest.mark.parametrize("seed", range(CASES))
def test_all_equal_independent_implementations(seed):
    logits, labels = random_case(seed)
    confidence, brier, nll = trust.row_scores(torch.tensor(logits), torch.tensor(labels))
    shares = [softmax(row) for row in logits.tolist()]
    right = [int(np.argmax(row) == label) for row, label in zip(logits, labels, strict=True)]
    sure = confidence.tolist()
    assert sure == pytest.approx([max(row) for row in shares], abs=1e-12)
    found = ranked(sure, right)
    assert ece(found) == pytest.approx(loop_ece(sure, right), abs=1e-12)
    assert ece_adaptive(found) == pytest.approx(loop_adaptive(sure, right), abs=1e-12)
    assert coverage_at(found) == loop_coverage(sure, right)
    classes = list(range(logits.shape[1]))
    one_hot = np.eye(len(classes))[labels]
    assert brier.mean().item() == pytest.approx(((np.array(shares) - one_hot) ** 2).sum(1).mean(), abs=1e-12)
    assert brier.mean().item() == pytest.approx(
        sum(brier_score_loss(one_hot[:, c], np.array(shares)[:, c], pos_label=1) for c in classes), abs=1e-9
    )
    logs = [max(row) + math.log(sum(math.exp(value - max(row)) for value in row)) for row in logits.tolist()]
    expected = sum(log - row[label] for log, row, label in zip(logs, logits.tolist(), labels, strict=True)) / len(
        labels
    )
    assert nll.mean().item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(CASES))
def test_decisions_equal_independent_implementations(seed):
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(int(draw.integers(1, 60)), 3)) * 3
    labels = draw.integers(0, 2, logits.shape)
    shares = 1 / (1 + np.exp(-logits))
    given_ = logits > draw.choice([-1, 0, 1])
    sure, brier, nll = trust.decision_scores(
        torch.tensor(logits), torch.tensor(labels, dtype=torch.float64), torch.tensor(given_)
    )
    flat, truth = shares.ravel(), labels.ravel()
    assert sure.numpy() == pytest.approx(np.where(given_, shares, 1 - shares), abs=1e-12)
    assert brier.mean().item() == pytest.approx(brier_score_loss(truth, flat, pos_label=1), abs=1e-12)
    assert nll.mean().item() == pytest.approx(log_loss(truth, flat, labels=[0, 1]), rel=1e-6)
    right = (given_ == labels).ravel().astype(int).tolist()
    assert ece(ranked(sure.ravel().tolist(), right)) == pytest.approx(loop_ece(sure.ravel().tolist(), right), abs=1e-12)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.2, 1 / 15, 0.5, 0.9, 1.0]), st.booleans()), min_size=1, max_size=80))
def test_ties_do_not_depend_on_the_order_of_rows(rows):
    confidence, right = zip(*rows, strict=True)
    one, other = ranked(confidence, right), ranked(confidence[::-1], right[::-1])
    for measure in (ece, ece_adaptive, coverage_at):
        assert measure(one) == measure(other)
    assert ece_adaptive(one) == pytest.approx(loop_adaptive(confidence, right), abs=1e-12)
    assert coverage_at(one) == loop_coverage(confidence, right)


@pytest.mark.parametrize(("right", "error", "coverage"), [(True, 0.3, 1.0), (False, 0.7, 0.0)])
def test_one_row(right, error, coverage):
    found = ranked([0.7], [right])
    assert (ece(found), ece_adaptive(found)) == (pytest.approx(error), pytest.approx(error))
    assert coverage_at(found) == coverage


def test_rows_of_one_confidence_are_one_bin():
    found = ranked([0.8] * 40, [True] * 30 + [False] * 10)
    assert ece(found) == pytest.approx(0.05)
    assert ece_adaptive(found) == pytest.approx(0.05)
    assert coverage_at(found) == 0
    assert sum(each is not None for each in bins(found)) == 1


def test_a_perfect_model_has_no_error():
    confidence, brier, nll = trust.row_scores(torch.tensor([[900.0, 0], [0, 900]]), torch.tensor([0, 1]))
    found = Ranked.of(confidence, torch.tensor([True, True]))
    assert (ece(found), ece_adaptive(found), coverage_at(found)) == (0, 0, 1)
    assert (brier.sum(), nll.sum()) == (0, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_confidence_on_an_edge_is_in_the_lower_bin(dtype):
    for number in range(16):
        found = bins(ranked([number / 15], [True], dtype))
        assert [place for place, each in enumerate(found) if each is not None] == [max(0, number - 1)]


def test_coverage_stops_where_less_than_95_percent_are_right():
    confidence = [1 - number / 1000 for number in range(100)]
    right = [True] * 19 + [False] + [True] * 60 + [False] * 20
    assert coverage_at(ranked(confidence, right)) == loop_coverage(confidence, right) == 0.83
    assert coverage_at(ranked([0.9] * 20, [True] * 19 + [False])) == 1  # exactly 95 %
    assert coverage_at(ranked([0.9, 0.8], [False, True])) == 0


def test_answers_beyond_one_slice_are_counted(monkeypatch):
    monkeypatch.setattr(trust, "_SLICE", 7)
    for seed in range(40):
        draw = np.random.default_rng(seed)
        confidence = draw.choice(np.linspace(0, 1, 11), 60).tolist()
        right = (draw.random(60) < np.array(confidence)).tolist()
        assert coverage_at(ranked(confidence, right)) == loop_coverage(confidence, right)


def test_a_confidence_that_is_no_number_gives_none():
    found = ranked([0.5, math.nan, 0.9], [True, True, False])
    assert all(math.isnan(measure(found)) for measure in (ece, ece_adaptive, coverage_at))
    assert coverage_curve(found) == []


def test_the_curve_has_the_accuracy_of_the_most_confident():
    confidence, right = [0.9, 0.8, 0.7, 0.6], [True, True, False, True]
    assert coverage_curve(ranked(confidence, right)) == [
        (0.25, 1.0, 0.9), (0.5, 1.0, 0.8), (0.75, pytest.approx(2 / 3), 0.7), (1.0, 0.75, 0.6)
    ]  # fmt: skip
    assert len(coverage_curve(ranked(np.linspace(0, 1, 999).tolist(), [True] * 999))) == 40


def test_asking_another_model_below_a_confidence():
    rows = torch.tensor([4, 4, 7, 9])
    confidence = torch.tensor([0.9, 0.4, 0.6, 0.99])
    right, others = torch.tensor([True, False, False, True]), torch.tensor([True, True, True, False])
    low, middle, high = asked(rows, confidence, right, others, [0.3, 0.5, 1.0])
    assert (low.share, low.rest, low.together) == (0, 0.5, 0.5)
    assert (middle.share, middle.rest, middle.together) == (pytest.approx(1 / 3), 0.5, 0.75)
    assert (high.share, high.together) == (1, 0.75)
    assert math.isnan(high.rest)
