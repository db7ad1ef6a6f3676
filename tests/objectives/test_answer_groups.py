"""Rows by the teachers that have answered them."""

from __future__ import annotations

import pytest
import torch

from kdspec.api.working.logits import DenseLogits
from kdspec.api.working.step import Features
from kdspec.objectives.answer_groups import by_teachers, over_groups, per_answer
from kdspec.ops.mean import Mean


def features(answered=None, mask=None):
    found = {"logits": (DenseLogits(torch.zeros(3, 2)),)}
    if answered is not None:
        found["answered"] = torch.tensor(answered)
    if mask is not None:
        found["logits_mask"] = torch.tensor(mask)
    return Features(found)


def groups(**teachers):
    found = by_teachers({name: features(*given) for name, given in teachers.items()})
    return None if found is None else [(names, rows.tolist()) for names, rows in found]


def test_teachers_with_weights_have_answered_all_rows():
    assert groups(a=(), b=()) is None


def test_of_one_teacher_the_answered_rows():
    assert groups(a=([1, 0, 1],)) == [(("a",), [True, False, True])]


def test_each_set_of_teachers_is_a_group():
    assert groups(a=([1, 1, 0],), b=([0, 1, 1],)) == [
        (("a",), [True, False, False]),
        (("b",), [False, False, True]),
        (("a", "b"), [False, True, False]),
    ]
    assert groups(a=([1, 0, 0],), live=()) == [(("live",), [False, True, True]), (("a", "live"), [True, False, False])]


def test_without_any_answer_all_teachers_have_no_rows():
    assert groups(a=([0, 0],), b=([0, 0],)) == [(("a", "b"), [False, False])]


def test_of_words_those_that_the_mask_keeps():
    assert groups(a=([[1, 0], [0, 1]], [[1, 1], [0, 1]])) == [(("a",), [True, False, True])]


def test_only_means_over_rows_or_positions_are_over_answers():
    total = torch.tensor(1.0)
    assert per_answer(Mean(total, 2.0, "labels")).per == "answered"
    assert per_answer(Mean(total, 2.0, "labelled")).per == "labelled"
    assert per_answer(total) is total


def test_over_groups_each_row_has_the_same_weight():
    parts = [[(".a", Mean(torch.tensor(4.0), 2.0, "answered"), 1.0)], [
        (".a", Mean(torch.tensor(3.0), 1.0, "answered"), 0.25),
        (".b", Mean(torch.tensor(8.0), 1.0, "answered"), 0.75),
    ]]  # fmt: skip
    rows = [torch.tensor([True, True, False]), torch.tensor([False, False, True])]
    found = over_groups(parts, rows, {".a": 0.25, ".b": 0.75})
    assert [(suffix, share) for suffix, _, share in found] == [(".a", 0.25), (".b", 0.75)]
    assert sum(float(mean.value) * share for _, mean, share in found) == pytest.approx((4 + 3 / 4 + 8 * 3 / 4) / 3)
    ((_, plain, share),) = over_groups([[("", torch.tensor(2.0), 1.0)], [("", torch.tensor(5.0), 1.0)]], rows, {})
    assert (float(plain.value), share) == (3.0, 1.0)
