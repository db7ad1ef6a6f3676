"""Answers of rows whose classes are not known, or are known from the rows alone."""

from __future__ import annotations

import math

import pytest
from recorded_rows import read

from kdspec.data.answers.recorded.read_answers import AnswerColumns
from kdspec.diagnostics.fault import Fault

HALF = math.log(0.5)


def test_the_order_of_lists_is_told_where_the_spec_does_not_name_the_classes():
    _, told = read([[0.5, 0.5]], named=False)
    assert told == [
        (
            "note",
            "the lists of `train` in `judge` are read in the order `ham`, `spam`",
            "write `labels: [ham, spam]` in task `mail`, or mappings of classes in the rows",
        )
    ]
    assert read([{"ham": 0.5, "spam": 0.5}], named=False)[1] == []
    assert read([[0.5, 0.5]], named=False, labels={"a": "ham", "b": "spam"})[1] == []


def test_before_the_rows_are_read_classes_are_those_of_the_answers():
    assert read([{"a": 0.5, "b": 0.5}], classes=())[0] == [[HALF, HALF]]
    assert read([[0.5, 0.5]], classes=())[0] == [[HALF, HALF]]
    with pytest.raises(Fault, match="row 2 of `train` has probabilities in `judge`"):
        read([{"a": 0.5, "b": 0.5}, {"a": 0.5}], classes=())
    with pytest.raises(Fault, match="row 2 of `train` has 1 value"):
        read([[0.5, 0.5], [1]], classes=())


def test_columns_have_their_places():
    assert AnswerColumns(form="logits", named="z").columns == {("logits",): "z"}
    assert AnswerColumns(form="logits", named={"a": "z"}).columns == {("logits", "a"): "z"}
    assert AnswerColumns(form="votes", named=["x", "y"]).columns == {("votes", 0): "x", ("votes", 1): "y"}


def test_no_rows_at_all():
    assert read([None, None]) == ([None, None], [])
    assert read([None], "top_k") == ([None], [])
