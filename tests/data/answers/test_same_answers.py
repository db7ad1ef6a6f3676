"""The share of rows for which two models have the same answer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdspec.data.answers.same_answers import share_of_same


def states(answers, rows=None, known=None, classes=3, batch=2):
    """The states of answers, in batches of two."""
    rows = range(len(answers)) if rows is None else rows
    known = [True] * len(answers) if known is None else known
    columns = {"rows": list(rows), "answers": answers, "known": known}
    parts = range(0, len(answers), batch)
    found = [{name: torch.tensor(values[at : at + batch]) for name, values in columns.items()} for at in parts]
    return [{**state, "classes": torch.tensor(classes)} for state in found]


def test_rows_are_compared_by_their_number():
    """Models with tokenizers of their own sort the rows by different lengths."""
    first = states([0, 1, 2], rows=[0, 1, 2])
    second = states([2, 1, 0], rows=[2, 1, 0])
    assert share_of_same(first, second, "answers") == 1.0


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()), min_size=1, max_size=30), st.randoms())
def test_it_is_the_share_of_known_rows_or_of_all_if_none_is_known(rows, random):
    mine, theirs, known = zip(*rows, strict=True)
    order = list(range(len(rows)))
    random.shuffle(order)
    other = states([theirs[row] for row in order], rows=order, known=[known[row] for row in order], batch=3)
    compared = [one == two for one, two, known in rows if known] or [one == two for one, two, _ in rows]
    found = share_of_same(states(list(mine), known=list(known)), other, "answers", "known")
    assert found == pytest.approx(sum(compared) / len(compared))
    assert share_of_same(other, other, "answers", "known") == 1


@pytest.mark.parametrize(
    "other",
    [states([0, 1], classes=4), states([0, 1, 1]), states([0, 1], rows=[0, 2]), states([[0], [1]]), []],
    ids=["other classes", "more rows", "other rows", "other shapes", "nothing"],
)
def test_models_that_cannot_be_compared_have_none(other):
    assert share_of_same(states([0, 1]), other, "answers") is None
    assert share_of_same(other, states([0, 1]), "answers") is None
