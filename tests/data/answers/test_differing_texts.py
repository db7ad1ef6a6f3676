"""Rows on which the texts, orders or similarities of two models differ."""

from __future__ import annotations

import math

from kdspec.data.answers.differing_texts import DifferingAnswers, GivenAnswer, farthest
from kdspec.data.answers.error_analysis import DIFFERING


def test_the_farthest_come_first_and_of_equal_ones_the_first():
    assert farthest([0.5, 2.0, 0.5, 1.0]) == [1, 3, 0, 2]
    assert farthest([0.1 + 0.2, 0.3]) == [0, 1]


def test_what_is_equal_or_not_known_is_left_out_and_so_are_the_many():
    assert farthest([0.0, math.nan, 1.0, math.inf]) == [2]
    assert farthest([1.0] * (DIFFERING + 5)) == list(range(DIFFERING))


def test_a_row_has_what_the_report_reads():
    found = DifferingAnswers(
        row=3, texts=["a question"], mine=GivenAnswer("x", 1.25, right=False), teachers=GivenAnswer("y", math.inf),
        labels=["y", "z"], about="far",
    )  # fmt: skip
    assert found.data() == {
        "row": 3, "texts": ["a question"], "about": "far", "answers": [["", ["y", "z"], "x", 1.25, "y", None]],
        "right": [[False, None]],
    }  # fmt: skip
    unknown = DifferingAnswers(texts=[], mine=GivenAnswer("x"), teachers=GivenAnswer("y")).data()
    assert (unknown["row"], unknown["answers"]) == (None, [["", None, "x", None, "y", None]])
