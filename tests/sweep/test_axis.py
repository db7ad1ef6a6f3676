"""The options of a sweep: lists, ranges and seeds, and what is wrong with them."""

from __future__ import annotations

import pytest

from kdspec.sweep.axis import AxisError, distinct, grid_axis, range_axis, seeds_of


@pytest.mark.parametrize(
    ("argument", "texts", "values"),
    [
        ("a.b=2,4, 8", ("2", "4", "8"), (2, 4, 8)),
        ("a=1e-4,0.001", ("1e-4", "0.001"), (1e-4, 1e-3)),
        (
            "a=kl,{dkd: {alpha: 1, beta: 8}}",
            ("kl", "{dkd: {alpha: 1, beta: 8}}"),
            ("kl", {"dkd": {"alpha": 1, "beta": 8}}),
        ),
        ("a=null,true,on", ("null", "true", "on"), (None, True, "on")),
        ("a=[1, 2],[3]", ("[1, 2]", "[3]"), ([1, 2], [3])),
        ("a='x,y'", ("'x,y'",), ("x,y",)),
        ("a=1,true", ("1", "true"), (1, True)),
    ],
)
def test_a_list_has_values_in_yaml_as_they_are_written(argument, texts, values):
    axis = grid_axis(argument)
    assert (axis.texts, axis.values) == (texts, values)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("a", "not of the form PATH=VALUE"),
        ("=1,2", "not of the form"),
        ("a=", "not of the form"),
        ("a=2,4,2.0", "`2.0` is twice among the values of `a`"),
        ("a=[1", "is not a list of values in YAML"),
        ("a=1\n,2", "has no values"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(argument, message):
    with pytest.raises(AxisError, match=message.replace("[", r"\[")):
        grid_axis(argument)


def test_a_range_has_ends_a_scale_and_whole_numbers():
    rate = range_axis("lr=1e-5..1e-3:log")
    assert (rate.path, rate.low, rate.high, rate.log, rate.whole) == ("lr", 1e-5, 1e-3, True, False)
    assert range_axis("layers=1..4").whole
    assert not range_axis("w=0.0..1").whole
    assert range_axis("w=-1.5..2.25").low == -1.5


def test_a_sampled_number_has_four_digits_and_stays_in_the_range():
    axis = range_axis("w=0.12344..0.54321")
    assert axis.written(0.33333333) == "0.3333"
    assert axis.written(0.12344) == "0.12344"
    assert axis.written(0.54321) == "0.5432"
    assert range_axis("n=1..9").written(3) == "3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", "is not a range"),
        ("1...3", "is not a range"),
        ("3..1", "is not below"),
        ("2..2", "is not below"),
        ("0..1:log", "above 0"),
        ("1..2:lin", "is not a range"),
        ("a..b", "is not a range"),
    ],
)
def test_a_range_that_cannot_be_read_is_refused(text, message):
    with pytest.raises(AxisError, match=message):
        range_axis(f"a={text}")


@pytest.mark.parametrize(
    ("text", "seeds"), [(None, (7,)), ("3", (7, 8, 9)), ("1,2,5", (1, 2, 5)), ("4,", (4,)), ("0,1", (0, 1))]
)
def test_seeds_are_counted_from_that_of_the_spec_or_listed(text, seeds):
    assert seeds_of(text, 7) == seeds


@pytest.mark.parametrize("text", ["0", "-1", "a", "1,1", ",", "1.5", "1001", "1;2"])
def test_seeds_that_cannot_be_read_are_refused(text):
    with pytest.raises(AxisError):
        seeds_of(text, 7)


@pytest.mark.parametrize(
    ("paths", "message"), [(("a", "a"), "given twice"), (("seed",), "`--seeds`"), (("name",), "names its runs itself")]
)
def test_axes_have_paths_of_their_own(paths, message):
    with pytest.raises(AxisError, match=message):
        distinct(grid_axis(f"{path}=1,2") for path in paths)
