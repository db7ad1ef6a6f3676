"""Recorded log-probabilities of the most likely classes."""

from __future__ import annotations

import json
import math

import pytest
from recorded_rows import read

from kdspec.diagnostics.fault import Fault

CLASSES = ("ham", "spam", "news", "bills")
LOG = {"ham": math.log(0.6), "spam": math.log(0.3)}


@pytest.mark.parametrize(
    "cell",
    [
        LOG,
        json.dumps(LOG),
        [list(pair) for pair in LOG.items()],
        [{"token": name, "logprob": value, "bytes": None} for name, value in LOG.items()],
        {"ham": LOG["ham"], "spam": LOG["spam"], "news": None, "bills": None},
    ],
)
def test_the_tail_is_spread_over_the_others(cell):
    found, _ = read([cell], "top_k", classes=CLASSES)
    assert [math.exp(each) for each in found[0]] == pytest.approx([0.6, 0.3, 0.05, 0.05])


def test_the_tail_may_be_dropped():
    found, _ = read([LOG], "top_k", classes=CLASSES, tail="drop")
    assert [math.exp(each) for each in found[0]] == pytest.approx([2 / 3, 1 / 3, 0, 0], abs=1e-30)
    assert all(map(math.isfinite, found[0]))


def test_names_that_are_no_class_are_in_the_tail_and_told():
    found, told = read([{**LOG, "The": math.log(0.06)}, {"The": -0.1}], "top_k", classes=CLASSES)
    assert [math.exp(each) for each in found[0]] == pytest.approx([0.6, 0.3, 0.05, 0.05])
    assert found[1] is None
    assert [message for _, message, _ in told] == [
        "1 name in `judge` of `train` is no class of task `mail`: `The`",
        "1 of 2 rows of `train` list no class of task `mail` in `judge`",
        "no row of `train` lists `news`, `bills` in `judge`",
    ]


def test_tokens_of_one_class_are_added():
    found, _ = read(
        [{" A": math.log(0.5), "A": math.log(0.2), "B": math.log(0.3)}],
        "top_k",
        labels={" A": "ham", "A": "ham", "B": "spam"},
    )
    assert [math.exp(each) for each in found[0]] == pytest.approx([0.7, 0.3])
    folded, _ = read([{" Ham": math.log(0.5), "ham": math.log(0.2), "spam": math.log(0.3)}], "top_k")
    assert folded[0] == pytest.approx(found[0])


def test_minus_infinity_is_a_probability_of_zero():
    found, _ = read([{"ham": 0.0, "spam": -math.inf}], "top_k")
    assert found[0] == pytest.approx([0.0, -87.33654])


def test_no_answer():
    assert read([None, {}, [], LOG], "top_k", classes=CLASSES)[0][:3] == [None] * 3


def tenth(p):
    return math.log10(p)


@pytest.mark.parametrize(
    ("cell", "message", "help_"),
    [
        ({"ham": tenth(0.7), "spam": tenth(0.3)}, "whose probabilities sum to 1.449, above 1", "these look like base 10: multiply by 2.302585"),
        ({"ham": math.log2(0.7), "spam": math.log2(0.3)}, "as powers of 2 to 1", "these look like base 2: multiply by 0.693147"),
        ({"ham": -0.01, "spam": -0.02}, "whose probabilities sum to 1.97, above 1", "write natural logarithms"),
        ({"ham": 0.9}, "has 0.9 for `ham` in `judge`, and a log-probability is not above 0", "looks like a probability"),
        ({"ham": 3.5}, "has 3.5 for `ham` in `judge`", "name logits in `logits`"),
        ({"ham": math.nan}, "has NaN for `ham` in `judge`, not a log-probability", ""),
        ({"ham": "x"}, "has `x` for `ham` in `judge`, not a log-probability", "write a number"),
        (-0.5, "has `-0.5` in `judge`, not log-probabilities by class", "or a list of pairs"),
        ([["ham"]], "not log-probabilities by class", "or a list of pairs"),
        ("ham: -0.1", "which is not JSON", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(cell, message, help_):
    with pytest.raises(Fault) as caught:
        read([{"ham": -0.1, "spam": math.log(1 - math.exp(-0.1))}, cell], "top_k")
    assert caught.value.message.startswith("row 2 of `train` ")
    assert message in caught.value.message
    assert help_ in caught.value.help


def test_names_that_are_all_others_are_an_error_with_both_lists():
    with pytest.raises(Fault, match="no name in `judge` of `train` is a class of task `mail`") as caught:
        read([{"A": -0.1, "B": -3.0}], "top_k")
    assert caught.value.notes == ("recorded: `A`, `B`", "task `mail`: `ham`, `spam`")
    assert caught.value.code == "KD403"
