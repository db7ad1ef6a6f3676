"""Numbers made of the values of a column."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from kdspec.data.numbers import advice, decision, is_integer, is_missing, number


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("3", 3.0),
        (" 3.5 ", 3.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("+1", 1.0),
        ("-1.250", -1.25),
        ("1e5", 100000.0),
        ("007", 7.0),
        ("3\u00a0", 3.0),
        (2, 2.0),
        (2.5, 2.5),
    ],
)
def test_what_writes_a_number_is_one(value, expected):
    assert number(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", ".", "-", "N/A", "3,5", "1_000", "0x10", "nan", "inf", "1e999", "\u0661"),
        "true",
        True,
        None,
        [1],
        math.inf,
        10**400,
    ],
)
def test_what_writes_no_number_is_none(value):
    assert number(value) is None


@given(st.floats(allow_nan=False, allow_infinity=False), st.text(" \t", max_size=3))
def test_every_float_is_read_back(value, blanks):
    assert number(f"{blanks}{value!r}{blanks}") == value


@given(st.integers(-(10**18) + 1, 10**18 - 1))
def test_an_integer_is_told_from_a_decimal(value):
    assert is_integer(str(value))
    assert not is_integer(f"{value}.0")


@given(st.text(max_size=8))
@example("1\x1f")
def test_any_text_is_a_number_or_none(value):
    found = number(value)
    assert found is None or math.isfinite(found)


@pytest.mark.parametrize("value", ["1", "1.0", "true", "True", "TRUE", " true ", "+1", 1, 1.0, True])
def test_what_says_yes(value):
    assert decision(value) == 1.0


@pytest.mark.parametrize("value", ["0", "0.0", "false", "False", "FALSE", "-0", 0, 0.0, False])
def test_what_says_no(value):
    assert decision(value) == 0.0


@pytest.mark.parametrize("value", ["2", "0.5", "yes", "unknown", "", 2, 0.5, None, [1]])
def test_what_says_neither(value):
    assert decision(value) is None


def test_what_is_missing():
    assert all(is_missing(value) for value in (None, "", "  ", math.nan))
    assert not any(is_missing(value) for value in ("N/A", "nan", 0, "0", False))
    assert is_missing(" N/A ", ["N/A"])
    assert is_missing("-1.000", ["-1"])
    assert is_missing(-1.0, ["-1"])
    assert not is_missing("1", ["-1", "N/A"])


def test_a_decimal_comma_has_advice_that_works():
    assert "after `.`" in advice("3,5")
    assert number("3,5".replace(",", ".")) == 3.5
    assert advice([1]) == "rows are counted from 1"


@pytest.mark.parametrize("value", ["N/A", " - ", "it's", "unknown"])
def test_a_mark_has_advice_that_works(value):
    written = yaml.safe_load(advice(value).partition("`")[2].removesuffix("`"))["missing"]
    assert not is_missing(value)
    assert is_missing(value, [written])
