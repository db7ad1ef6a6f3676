"""Votes of annotators as a distribution."""

from __future__ import annotations

import math

import pytest
from recorded_rows import read

from kdspec.diagnostics.fault import Fault

TWO_TO_ONE = pytest.approx([math.log(1 / 3), math.log(2 / 3)])


@pytest.mark.parametrize(
    "cell",
    [
        ["spam", "ham", "spam"],
        ["Spam", None, "ham", "SPAM"],
        '["spam", "spam", "ham"]',
        {"spam": 2, "ham": 1},
        {"spam": "4", "ham": 2.0},
    ],
)
def test_each_form_gives_the_shares(cell):
    assert read([cell], "votes")[0][0] == TWO_TO_ONE


def test_a_column_for_each_annotator():
    found, _ = read({"ann": ["spam", None, ""], "bob": ["spam", "ham", None], "eve": ["ham", "", None]}, "votes")
    assert found[0] == TWO_TO_ONE
    assert found[1] == pytest.approx([0.0, -87.33654])
    assert found[2] is None


def test_numbers_of_classes_are_names():
    found, _ = read([[1, 1, 0]], "votes", classes=("0", "1"))
    assert found[0] == TWO_TO_ONE


@pytest.mark.parametrize("cell", [None, [], [None, None], {"spam": 0, "ham": 0}])
def test_nobody_has_voted(cell):
    assert read([cell, ["ham"]], "votes")[0][0] is None


def test_names_are_merged():
    assert read([["junk", "ads", "ham"]], "votes", labels={"junk": "spam", "ads": "spam"})[0][0] == TWO_TO_ONE


def test_labels_that_are_independent_have_shares_of_their_own():
    found, _ = read([[["ham"], ["ham", "spam"], [], "ham"]], "votes", logits="labels")
    assert found[0] == pytest.approx([math.log(3), math.log(1 / 3)])
    merged, _ = read([[["a", "b"], []]], "votes", logits="labels", labels={"a": "spam", "b": "spam"})
    assert merged[0][1] == pytest.approx(0.0)


def test_words_are_voted_on():
    found, _ = read([[["ham", "spam", "spam"], {"ham": 1}]], "votes", words=[2])
    assert found[0][0] == TWO_TO_ONE
    by_annotator, _ = read(
        {"ann": [["spam", "ham"]], "bob": [["ham", None]], "eve": ['["spam", null]']}, "votes", words=[2]
    )
    assert by_annotator == [[found[0][0], found[0][1]]]


@pytest.mark.parametrize(
    ("cell", "options", "message"),
    [
        (["spam", "hamm"], {}, "has the class `hamm` in `judge`, which is not among those of task `mail`"),
        ({"spam": -1, "ham": 2}, {}, "has -1 votes for `spam` in `judge`"),
        ({"spam": "many"}, {}, "has `many` for `spam` in `judge`, not a number of votes"),
        ([["spam", "ham"]], {}, "has a list in `judge`, not the class of one vote"),
        ([{"spam": 1}], {}, "has a dict in `judge`, not the class of one vote"),
        ({"spam": 2}, {"logits": "labels"}, "has counts in `judge`, and not how many have voted"),
        (3, {}, "has `3` in `judge`, not a list of votes"),
        ("spam", {}, "has `spam` in `judge`, which is not JSON"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(cell, options, message):
    with pytest.raises(Fault) as caught:
        read([["ham"] if not options else [["ham"]], cell], "votes", **options)
    assert message in caught.value.message
    assert "row 2 of `train`" in caught.value.message
