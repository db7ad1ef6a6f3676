"""The median rule: a run that is worse than the median of finished ones at its step is bad."""

from __future__ import annotations

import math

import pytest

from kdspec.sweep.median_rule import FIRST, MedianRule


@pytest.fixture
def rule():
    """A rule that has seen finished runs with 0.1, 0.2, ... after step 10."""
    made = MedianRule()
    for number in range(1, FIRST + 1):
        assert not made.hear(f"r{number}", 10, number / 10)
        made.end(f"r{number}", number / 10)
    return made


@pytest.mark.parametrize(("value", "bad"), [(0.1, True), (0.29, True), (0.31, False), (0.9, False), (math.nan, True)])
def test_a_run_below_the_median_is_bad(rule, value, bad):
    assert rule.hear("new", 10, value) == bad


def test_the_best_value_so_far_counts(rule):
    assert not rule.hear("new", 5, 0.9)
    assert not rule.hear("new", 10, 0.1)


def test_a_step_that_no_other_run_has_says_nothing(rule):
    assert not rule.hear("new", 11, 0.0)


def test_before_some_have_finished_none_is_bad():
    rule = MedianRule()
    for number in range(FIRST - 1):
        rule.hear(f"r{number}", 10, 0.9)
        rule.end(f"r{number}", 0.9)
    assert not rule.hear("new", 10, 0.0)


def test_failed_runs_do_not_count():
    rule = MedianRule()
    for number in range(FIRST):
        rule.hear(f"r{number}", 10, 0.9)
        rule.end(f"r{number}", None)
    assert not rule.hear("new", 10, 0.0)


def test_a_step_that_is_done_again_is_heard_once(rule):
    assert rule.hear("new", 10, 0.1)
    assert rule.hear("new", 10, 0.1)
