"""Recorded logits, and numbers of a regression."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from recorded_rows import read

from kdspec.diagnostics.fault import Fault


def test_they_are_read_back_bit_for_bit():
    drawn = np.random.default_rng(1).normal(size=(50, 2)).astype(np.float32)
    cells = [json.dumps(dict(zip(("spam", "ham"), map(float, row), strict=True))) for row in drawn]
    found, _ = read(cells, "logits")
    assert np.array_equal(np.array(found, dtype=np.float32), drawn[:, ::-1])


def test_merged_classes_have_the_sum_of_their_probabilities():
    found, _ = read([{"a": 1.0, "b": 2.0, "c": 0.5}], "logits", labels={"a": "spam", "b": "spam", "c": "ham"})
    assert found[0] == pytest.approx([0.5, math.log(math.e + math.e**2)])
    huge, _ = read([[1e4, 1e4, 0]], "logits", labels={"a": "spam", "b": "spam", "c": "ham"})
    assert huge[0] == pytest.approx([0, 1e4 + math.log(2)])


@pytest.mark.parametrize("cell", [2.5, "2.5", [2.5], {"score": 2.5}])
def test_a_number_of_a_regression(cell):
    assert read([cell, None], "logits", classes=("score",), logits="numbers")[0] == [[2.5], None]


def test_several_numbers_of_a_regression():
    for cell in ([1, 2], {"b": 2, "a": 1}):
        assert read([cell], "logits", classes=("a", "b"), logits="numbers")[0] == [[1, 2]]


@pytest.mark.parametrize(
    ("cell", "message", "help_"),
    [
        ([math.nan, 1], "has NaN for `ham` in `judge`, not a logit", "null"),
        ([-math.inf, 1], "has -Inf for `ham` in `judge`, not a logit", "write a large negative number, such as -100"),
        ([1, 2, 3], "has 3 values in `judge`", "one for each"),
        ({"ham": 1}, "has no value for `spam`", "each class needs one"),
    ],
)
def test_what_is_wrong_is_said(cell, message, help_):
    with pytest.raises(Fault) as caught:
        read([cell], "logits")
    assert message in caught.value.message
    assert help_ in caught.value.help


def test_a_number_that_is_none_is_called_so():
    with pytest.raises(Fault, match="has `high` in `judge`, which is not JSON"):
        read(["high"], "logits", classes=("score",), logits="numbers")
    with pytest.raises(Fault, match="not a number"):
        read([[True]], "logits", classes=("score",), logits="numbers")


def test_probabilities_in_place_of_logits_are_a_warning():
    _, told = read([[0.2, 0.8], [0.5, 0.5]], "logits")
    assert [(severity, message) for severity, message, _ in told] == [
        ("error", "all logits of `train` in `judge` are between 0 and 1 and sum to 1: they look like probabilities")
    ]
    assert "write `probabilities` in place of `logits`" in told[0][2]
    assert read([[0.2, 0.8], [0.5, 0.6]], "logits")[1] == []
    assert read([[0.2, 0.8], [-0.5, 1.5]], "logits")[1] == []
    assert read([[0.2, 0.8]] * 9, "logits", logits="labels")[1] == []
    assert len(read([[0.2, 0.9]] * 10, "logits", logits="labels")[1]) == 1
    assert read([[0.2]] * 20, "logits", logits="numbers", classes=("score",))[1] == []


@pytest.mark.parametrize("logits", ["labels", "numbers"])
def test_what_cannot_be_added_is_not_merged(logits):
    with pytest.raises(Fault, match="`a` and `b` are both `spam`") as caught:
        read([{"a": 1.0, "b": 2.0, "ham": 0.5}], "logits", labels={"a": "spam", "b": "spam"}, logits=logits)
    assert caught.value.at == ("labels",)
