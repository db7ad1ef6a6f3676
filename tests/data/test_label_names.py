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
