"""Names of labels."""

from __future__ import annotations

import math

import pytest

from kdspec.data import label_names
from kdspec.diagnostics.fault import Fault


@pytest.mark.parametrize(
    ("value", "name"),
    [(True, "true"), (1.0, "1"), (1.5, "1.5"), (7, "7"), ("x", "x"), ("", None), (None, None), (math.nan, None)],
)
def test_a_label_is_named_as_a_spec_writes_it(value, name):
    assert label_names.written(value) == name


def test_numbers_come_before_names_and_each_once():
    assert label_names.ordered(["b", "10", "9", "b", "a"]) == ["9", "10", "a", "b"]


def test_one_label_is_no_choice():
    with pytest.raises(Fault, match="only the label `x`") as caught:
        label_names.at_least_two(["x"], "column", ("label",))
    assert (caught.value.code, caught.value.at) == ("KD312", ("label",))


@pytest.mark.parametrize(
    ("name", "names", "help_"),
    [
        ("goood", ["good", "bad"], "did you mean `good`?"),
        ("?", ["good", "bad"], "if it means that there is none, write `missing: '?'`"),
        ("-9", ["0", "1"], "if it means that there is none, write `missing: '-9'`"),
        ("3", ["a", "b", "c"], "the 3 names can stand for the numbers 0 to 2, if no label is another number"),
        ("3", ["0", "1", "2"], "rows are counted from 1"),
        ("12", ["1", "2"], "rows are counted from 1"),
    ],
)
def test_the_help_for_an_unknown_label(name, names, help_):
    assert label_names.unknown(name, names, "test", 3, ("label",)).help == help_


@pytest.mark.parametrize(
    ("name", "value"),
    [("2", 2), ("2.0", 2), ("-1", -1), ("0", 0), ("02", None), ("2.00", None), ("2e1", None), ("x", None)],
)
def test_a_whole_number_is_written_without_more_digits_than_it_needs(name, value):
    assert label_names.whole(name) == value


def test_marks_are_compared_as_texts_and_as_whole_numbers():
    assert label_names.written(" - ", ["-"]) is None
    assert label_names.written("-1.0", ["-1"]) is None
    assert label_names.written("-1", ["-"]) == "-1"
    assert label_names.written("New\N{NO-BREAK SPACE}York \N{NO-BREAK SPACE}") == "New\N{NO-BREAK SPACE}York"
