"""Learning-rate schedules: pure functions of the step."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kdspec.api.kinds.context import LrScheduleContext
from kdspec.api.kinds.kinds import LrSchedule
from kdspec.builtins.training.optimizers import kdspec_components
from kdspec.diagnostics.fault import Fault

SCHEDULES = {c.name: c for c in kdspec_components() if issubclass(c, LrSchedule)}
REQUIRED = {"constant_with_warmup": {"warmup": 10}, "exponential": {"gamma": 0.9}, "step": {"every": 30}}


def factor(name, total=100, **parameters):
    return (
        SCHEDULES[name]
        .model_validate({**REQUIRED.get(name, {}), **parameters})
        .build(LrScheduleContext(total_steps=total))
    )


@pytest.mark.parametrize(
    ("name", "parameters", "values"),
    [
        ("constant", {}, {0: 1, 99: 1, 1000: 1}),
        ("constant_with_warmup", {"warmup": 10}, {0: 0, 5: 0.5, 10: 1, 100: 1}),
        ("linear", {}, {0: 1, 50: 0.5, 100: 0}),
        ("linear", {"warmup": 20}, {0: 0, 10: 0.5, 20: 1, 60: 0.5, 100: 0}),
        ("cosine", {"warmup": 20}, {0: 0, 20: 1, 60: 0.5, 100: 0}),
        ("cosine_with_restarts", {"cycles": 2}, {0: 1, 25: 0.5, 50: 1, 75: 0.5, 100: 0}),
        ("polynomial", {"power": 2, "end": 0.2}, {0: 1, 50: 0.2 + 0.8 * 0.25, 100: 0.2, 101: 0.2}),
        ("polynomial", {"warmup": 10}, {0: 0, 10: 1, 55: 0.5, 100: 0}),
        ("inverse_sqrt", {"warmup": 10}, {0: 0, 10: 1, 40: 0.5, 90: 1 / 3}),
        ("inverse_sqrt", {"timescale": 10}, {0: 1, 10: math.sqrt(0.5), 30: 0.5}),
        ("warmup_stable_decay", {"warmup": 10, "decay": 20, "shape": "linear"}, {0: 0, 10: 1, 80: 1, 90: 0.5, 100: 0}),
        ("warmup_stable_decay", {"end": 0.1}, {0: 1, 90: 1, 95: 0.55, 100: 0.1}),
        ("exponential", {"gamma": 0.5}, {0: 1, 1: 0.5, 3: 0.125}),
        ("step", {"every": 30, "gamma": 0.5}, {0: 1, 29: 1, 30: 0.5, 60: 0.25}),
    ],
)
def test_a_schedule_has_these_factors(name, parameters, values):
    found = factor(name, **parameters)
    assert {step: found(step) for step in values} == pytest.approx(values, abs=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_factor_depends_on_the_step_alone(name):
    first, second = factor(name), factor(name)
    forwards = [first(step) for step in range(101)]
    assert [second(step) for step in reversed(range(101))] == forwards[::-1]
    assert all(0 <= value <= 1 for value in forwards)


def test_a_warm_up_below_one_is_a_part_of_all_steps_rounded_up():
    assert [factor("linear", 1000, warmup=0.1)(step) for step in (50, 100)] == [0.5, 1.0]
    assert factor("linear", 15, warmup=0.1)(1) == 0.5


@settings(deadline=None)
@given(st.integers(2, 10_000), st.floats(0, 0.5))
def test_a_warm_up_ends_at_the_full_rate(total, warmup):
    assert factor("linear", total, warmup=warmup)(math.ceil(warmup * total)) == 1


@pytest.mark.parametrize("name", ["linear", "cosine", "polynomial", "inverse_sqrt", "constant_with_warmup"])
def test_a_warm_up_that_leaves_no_steps_is_a_fault_at_its_key(name):
    with pytest.raises(Fault, match="a warm-up of 100 steps leaves none of the 100") as caught:
        factor(name, 100, warmup=100)
    assert (caught.value.code, caught.value.at) == ("KD104", ("warmup",))


def test_a_warm_up_and_a_decay_that_do_not_fit_are_a_fault():
    with pytest.raises(Fault, match="60 steps of warm-up and 50 of decay are more than the stage's 100") as caught:
        factor("warmup_stable_decay", 100, warmup=60, decay=0.5)
    assert caught.value.at == ("decay",)


def test_a_stage_of_one_step_has_a_schedule():
    assert factor("linear", 1)(0) == 1


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("linear", {"warmup": 1.5}),
        ("linear", {"warmup": -1}),
        ("linear", {"warmup": "10%"}),
        ("constant", {"warmup": 10}),
        ("cosine_with_restarts", {"cycles": 0}),
        ("polynomial", {"end": 1}),
        ("polynomial", {"power": 0}),
        ("inverse_sqrt", {"timescale": 0}),
        ("warmup_stable_decay", {"shape": "square"}),
        ("exponential", {"gamma": 0}),
        ("exponential", {"gamma": 1.1}),
        ("step", {"every": 0}),
    ],
)
def test_an_impossible_parameter_is_refused(name, parameters):
    with pytest.raises(ValidationError):
        SCHEDULES[name].model_validate({**REQUIRED.get(name, {}), **parameters})


def test_a_fractional_number_of_steps_is_explained():
    with pytest.raises(ValidationError, match="from 1 it is a number of steps"):
        SCHEDULES["linear"](warmup=1.5)


@pytest.mark.parametrize("name", ["constant_with_warmup", "exponential", "step"])
def test_a_schedule_without_a_sensible_default_needs_its_parameter(name):
    with pytest.raises(ValidationError):
        SCHEDULES[name]()


def test_a_context_without_the_number_of_steps_cannot_be_made():
    with pytest.raises(TypeError, match="total_steps"):
        LrScheduleContext()
