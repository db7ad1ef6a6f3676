"""Metrics that tell nothing beside others."""

from __future__ import annotations

import math

from kdspec.data.embedding.repeated_metrics import repeated

UNIT = {"s.spearman": 0.81, "s.pearson": 0.8, "s.spearman_dot": 0.8102, "s.pearson_dot": 0.8 + 1e-9, "q.ndcg@10": 0.5}
LONG = {**UNIT, "s.pearson_dot": 0.7}
DOT = {"s.spearman_dot", "s.pearson_dot"}


def test_those_of_the_dot_product_of_unit_vectors_are_repeated():
    assert repeated([UNIT]) == DOT
    assert repeated([{f"task.{name}": value for name, value in UNIT.items()}]) == {f"task.{name}" for name in DOT}
    assert repeated([]) == frozenset()


def test_they_are_not_where_a_model_has_vectors_of_another_length():
    assert repeated([LONG]) == frozenset()
    assert repeated([UNIT, LONG]) == frozenset()
    assert repeated([UNIT, {}]) == DOT


def test_the_metric_that_selects_the_best_student_is_shown():
    assert repeated([UNIT], {"s.spearman_dot"}) == {"s.pearson_dot"}


def test_each_set_is_told_apart():
    assert repeated([{**UNIT, "t.pearson": 0.3, "t.pearson_dot": 0.4, "t.spearman_dot": 0.4}]) == DOT


def test_what_is_not_a_number_repeats_nothing():
    assert repeated([{"s.pearson": math.nan, "s.pearson_dot": math.nan}]) == frozenset()
