"""Agreement of two models."""

from __future__ import annotations

import pytest
import torch

from kdspec.engine.evaluation import Outcome, agreement


def outcome(logits, rows, batch=2):
    return Outcome({}, tuple(rows), tuple(torch.tensor(logits).split(batch)), ())


def test_rows_are_compared_by_their_number():
    """Models with tokenizers of their own sort the rows by different lengths."""
    first = outcome([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0, 1, 2])
    second = outcome([[0.0, 2.0], [0.0, 2.0], [2.0, 0.0]], [2, 1, 0])
    assert agreement(first, second) == 1.0


def test_it_is_a_part_of_the_rows():
    first = outcome([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], range(4))
    second = outcome([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], range(4))
    assert agreement(first, second) == 0.5


@pytest.mark.parametrize(
    "other",
    [
        outcome([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], range(2)),
        outcome([[[1.0, 0.0]], [[0.0, 1.0]]], range(2)),
        outcome([[1.0], [0.0]], range(2)),
        Outcome({}, (0, 1), (), ()),
    ],
    ids=["other classes", "tokens", "one value", "no logits"],
)
def test_what_does_not_choose_of_the_same_cannot_be_compared(other):
    assert agreement(outcome([[1.0, 0.0], [0.0, 1.0]], range(2)), other) is None


def test_of_labels_that_hold_together_every_decision_counts():
    first = outcome([[1.0, -1.0], [2.0, 3.0]], range(2))
    second = outcome([[0.5, -2.0], [2.0, -3.0]], range(2))
    assert agreement(first, second, "labels") == 0.75


def test_numbers_are_no_choice():
    first = outcome([[1.0, -1.0], [2.0, 3.0]], range(2))
    assert agreement(first, first, "numbers") is None
