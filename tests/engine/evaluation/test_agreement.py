"""Agreement of two models."""

from __future__ import annotations

import pytest
import torch

from kdspec import Batch, Features
from kdspec.engine.evaluation.agreement import Agreement


def chosen(*heads, rows, labels=None, batch=2, kind="classes"):
    """The states of logits by head; without labels each row is of the first class."""
    logits = [torch.tensor(head).split(batch) for head in heads]
    right = (torch.zeros(len(rows), dtype=torch.long) if labels is None else torch.tensor(labels)).split(batch)
    numbers = torch.tensor(list(rows)).split(batch)
    return [
        Agreement(kind).add(
            Features({"logits": tuple(head[part] for head in logits), "labels": (right[part],) * len(heads)}),
            Batch(inputs={}, rows=numbers[part].tolist()),
        )
        for part in range(len(right))
    ]


def agreement(first, second, kind="classes"):
    return Agreement(kind, second).merge(first).get("agreement")


def test_rows_are_compared_by_their_number():
    """Models with tokenizers of their own sort the rows by different lengths."""
    first = chosen([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], rows=[0, 1, 2])
    second = chosen([[0.0, 2.0], [0.0, 2.0], [2.0, 0.0]], rows=[2, 1, 0])
    assert agreement(first, second) == 1.0


def test_it_is_a_part_of_the_rows():
    first = chosen([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], rows=range(4))
    second = chosen([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], rows=range(4))
    assert agreement(first, second) == 0.5


A, B = [1.0, 0.0], [0.0, 1.0]


def test_of_tokens_it_is_a_part_of_those_with_a_label():
    """Tokens correspond by their order, whatever the pieces that the two tokenizers make of the other ones."""
    first = chosen([[B, A, A], [B, B, A]], rows=[0, 1], labels=[[-100, 0, 1], [0, 0, -100]])
    second = chosen([[B, B, A, A], [A, A, A, B]], rows=[1, 0], labels=[[0, 1, -100, -100], [0, -100, -100, 1]])
    assert agreement(first, second) == 0.75


def test_of_several_heads_all_must_agree():
    first = chosen([A, A], [A, B], rows=[0, 1])
    second = chosen([A, A], [A, A], rows=[0, 1])
    assert agreement(first, second) == 0.5


@pytest.mark.parametrize(
    "other",
    [
        chosen([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], rows=range(2)),
        chosen([A, B, A], rows=range(3)),
        chosen([[[1.0]], [[0.0]]], rows=range(2)),
        chosen([[A], [B]], rows=range(2)),
        chosen([[1.0], [0.0]], rows=range(2)),
        chosen([A, B], [A, B], rows=range(2)),
        None,
    ],
    ids=["other classes", "other rows", "tokens of one value", "tokens", "one value", "other heads", "no reference"],
)
def test_models_with_different_classes_cannot_be_compared(other):
    assert agreement(chosen([A, B], rows=range(2)), other) is None
    assert other is None or agreement(other, chosen([A, B], rows=range(2))) is None


def test_of_labels_that_hold_together_every_decision_counts():
    first = chosen([[1.0, -1.0], [2.0, 3.0]], rows=range(2), kind="labels")
    second = chosen([[0.5, -2.0], [2.0, -3.0]], rows=range(2), kind="labels")
    assert agreement(first, second, "labels") == 0.75


def test_numbers_are_no_choice():
    first = chosen([[1.0, -1.0], [2.0, 3.0]], rows=range(2))
    assert agreement(first, first, "numbers") is None
