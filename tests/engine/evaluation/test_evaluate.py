"""Agreement of two models."""

from __future__ import annotations

import pytest
import torch

from kdspec.api.answers import Answers
from kdspec.engine.evaluation.evaluate import Outcome, agreement


def outcome(*heads, rows, labels=None, batch=2, tokenizer=None):
    """Of logits by head; without labels each row is of the first class."""
    logits = [torch.tensor(head).split(batch) for head in heads]
    right = torch.zeros(len(rows), dtype=torch.long) if labels is None else torch.tensor(labels)
    answers = Answers(
        split="test",
        rows=tuple(rows),
        examples=[{}] * len(rows),
        logits=logits,
        labels=[right.split(batch)] * len(heads),
        tokenizer=tokenizer,
    )
    return Outcome({}, answers)


def test_rows_are_compared_by_their_number():
    """Models with tokenizers of their own sort the rows by different lengths."""
    first = outcome([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], rows=[0, 1, 2])
    second = outcome([[0.0, 2.0], [0.0, 2.0], [2.0, 0.0]], rows=[2, 1, 0])
    assert agreement(first, second) == 1.0


def test_it_is_a_part_of_the_rows():
    first = outcome([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], rows=range(4))
    second = outcome([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], rows=range(4))
    assert agreement(first, second) == 0.5


A, B = [1.0, 0.0], [0.0, 1.0]


def test_of_tokens_it_is_a_part_of_those_with_a_label():
    """Tokens correspond by their order, whatever the pieces that the two tokenizers make of the other ones."""
    first = outcome([[B, A, A], [B, B, A]], rows=[0, 1], labels=[[-100, 0, 1], [0, 0, -100]])
    second = outcome([[B, B, A, A], [A, A, A, B]], rows=[1, 0], labels=[[0, 1, -100, -100], [0, -100, -100, 1]])
    assert agreement(first, second) == 0.75


def test_of_several_heads_all_must_agree():
    tokenizer = object()
    first = outcome([A, A], [A, B], rows=[0, 1], tokenizer=tokenizer)
    second = outcome([A, A], [A, A], rows=[0, 1], tokenizer=tokenizer)
    assert agreement(first, second) == 0.5
    assert agreement(first, outcome([A, A], [A, A], rows=[0, 1], tokenizer=object())) is None


@pytest.mark.parametrize(
    "other",
    [
        outcome([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], rows=range(2)),
        outcome([A, B, A], rows=range(3)),
        outcome([[[1.0]], [[0.0]]], rows=range(2)),
        outcome([[A], [B]], rows=range(2)),
        outcome([[1.0], [0.0]], rows=range(2)),
        outcome([A, B], [A, B], rows=range(2)),
        Outcome({}),
    ],
    ids=["other classes", "other rows", "tokens of one value", "tokens", "one value", "other heads", "no logits"],
)
def test_what_does_not_choose_of_the_same_cannot_be_compared(other):
    assert agreement(outcome([A, B], rows=range(2)), other) is None


def test_of_labels_that_hold_together_every_decision_counts():
    first = outcome([[1.0, -1.0], [2.0, 3.0]], rows=range(2))
    second = outcome([[0.5, -2.0], [2.0, -3.0]], rows=range(2))
    assert agreement(first, second, "labels") == 0.75


def test_numbers_are_no_choice():
    first = outcome([[1.0, -1.0], [2.0, 3.0]], rows=range(2))
    assert agreement(first, first, "numbers") is None
