"""Weights over a stage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kdspec.api.kinds.context import BuildContext
from kdspec.builtins.training.schedules import ConstantWeight, LinearDecay, LinearGrowth

WEIGHTS = st.floats(min_value=0, max_value=1e6)
PARTS = st.floats(min_value=0, max_value=1)


def at(schedule, *progress):
    weight = schedule.build(BuildContext())
    return [weight(part) for part in progress]


def test_a_constant_is_the_same_throughout():
    assert at(ConstantWeight(value=0.5), 0.0, 0.3, 1.0) == [0.5, 0.5, 0.5]


def test_decay_falls_from_one_to_zero_by_default():
    assert at(LinearDecay(), 0.0, 0.25, 1.0) == [1.0, 0.75, 0.0]
    assert at(LinearDecay.model_validate({"from": 4, "to": 2}), 0.0, 0.5, 1.0) == [4.0, 3.0, 2.0]


def test_growth_rises_from_zero_to_one_by_default():
    assert at(LinearGrowth(), 0.0, 0.25, 1.0) == [0.0, 0.25, 1.0]
    assert at(LinearGrowth.model_validate({"from": 2, "to": 4}), 0.0, 0.5, 1.0) == [2.0, 3.0, 4.0]


@given(WEIGHTS, WEIGHTS, PARTS)
def test_a_line_stays_between_its_ends(one, other, progress):
    low, high = sorted([one, other])
    for schedule in (LinearDecay, LinearGrowth):
        start, end = (high, low) if schedule is LinearDecay else (low, high)
        [weight] = at(schedule.model_validate({"from": start, "to": end}), progress)
        assert low - 1e-9 * high <= weight <= high * (1 + 1e-9)


def test_a_constant_is_written_as_a_number():
    assert ConstantWeight(value=2).written() == 2.0


@pytest.mark.parametrize("schedule", [LinearDecay, LinearGrowth])
def test_what_is_written_can_be_read_again(schedule):
    made = schedule.model_validate({"from": 0.5, "to": 0.5})
    assert made.written() == {schedule.name: {"from": 0.5, "to": 0.5}}
    assert schedule.model_validate(made.written()[schedule.name]) == made


def test_only_a_weight_that_never_leaves_zero_is_always_zero():
    assert ConstantWeight(value=0).always_zero()
    assert LinearGrowth(to=0).always_zero()
    assert LinearDecay.model_validate({"from": 0}).always_zero()
    assert not any(schedule.always_zero() for schedule in (ConstantWeight(value=1e-9), LinearDecay(), LinearGrowth()))


@pytest.mark.parametrize(
    ("schedule", "parameters", "loc"),
    [
        (ConstantWeight, {"value": -1}, "value"),
        (ConstantWeight, {}, "value"),
        (ConstantWeight, {"value": "1"}, "value"),
        (ConstantWeight, {"value": float("nan")}, "value"),
        (LinearDecay, {"from": -1}, "from"),
        (LinearDecay, {"to": 2}, "to"),
        (LinearGrowth, {"from": 3, "to": 2}, "to"),
        (LinearDecay, {"from_": 1}, "from_"),
    ],
)
def test_an_impossible_weight_is_refused_at_its_key(schedule, parameters, loc):
    with pytest.raises(ValidationError) as caught:
        schedule.model_validate(parameters)
    assert caught.value.errors()[0]["loc"] == (loc,)


def test_a_decay_that_would_grow_is_sent_to_the_other_schedule():
    with pytest.raises(ValidationError, match="it would grow: `linear_growth` does"):
        LinearDecay(to=2)
