"""Probabilities as logits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kdspec.data.answers.recorded.log_space import LEAST, log, log_sum, logit, logits_of


def test_the_least_probability_is_the_smallest_normal_number_of_float32():
    assert np.float32(LEAST) == np.finfo(np.float32).tiny
    assert log(0) == log(LEAST) == pytest.approx(-87.33654475)


def test_logits_sum_to_one():
    assert logits_of([1, 3]) == [math.log(0.25), math.log(0.75)]
    assert logits_of([0.0, 1.0]) == [log(0), 0.0]


def test_logit_is_finite_at_both_ends():
    assert logit(0.5) == 0
    assert logit(1) == -logit(0) == pytest.approx(87.33654475)


def test_log_sum_keeps_a_single_number_as_it_is():
    assert log_sum([0.1]) == 0.1
    assert log_sum([1e4, 1e4]) == pytest.approx(1e4 + math.log(2))
