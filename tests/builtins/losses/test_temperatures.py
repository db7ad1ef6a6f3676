"""Temperatures of soft labels."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.losses import Temperature
from kdspec.builtins.losses.temperatures import ConstantTemperature, Cwsm, Flsw, SideTemperatures


def logits(a, b):
    return (2 * torch.sin(a * torch.arange(20, dtype=torch.float64) + b)).reshape(4, 5)


STUDENT, TEACHER = logits(0.7, 0.1), logits(0.9, 0.3)


def test_a_constant_is_one_number_for_all_rows():
    assert ConstantTemperature(value=8).build(BuildContext())(STUDENT, TEACHER, 0.5) == 8.0


def test_flsw_gives_textbrewers_temperatures():
    found = Flsw(base=4, beta=1, gamma=2).build(BuildContext())(STUDENT, TEACHER, 0.0)
    expected = [5.82697345307397, 5.096258051846348, 2.756630191775475, 2.320138303304207]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=0)


def test_cwsm_gives_textbrewers_temperatures():
    found = Cwsm(base=4, beta=1).build(BuildContext())(STUDENT, TEACHER, 0.0)
    expected = [3.4702787747588157, 4.275187111108002, 3.5916703218508275, 4.662863792282353]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=0)


def test_a_large_beta_never_makes_a_temperature_that_is_not_positive():
    for temperature in (Flsw(base=1, beta=100), Cwsm(base=1, beta=100)):
        assert (temperature.build(BuildContext())(STUDENT, TEACHER, 0.0) > 0).all()


def test_a_constant_is_written_as_a_number():
    assert ConstantTemperature(value=8).written() == 8.0


def test_a_number_for_each_side_is_written_as_a_mapping():
    sides = SideTemperatures(student=0.05)
    assert sides.written() == {"student": 0.05, "teacher": 1.0}
    assert Temperature.from_plain(sides.written()) == ("sides", sides.written())
    assert sides.build(BuildContext())(STUDENT, TEACHER, 0.5) == (0.05, 1.0)
    assert sides.fixed() == (1.0,)


@pytest.mark.parametrize(
    ("written", "parameters"),
    [
        ({"teacher": 0.05}, {"teacher": 0.05}),
        ({"techer": 0.05}, {"techer": 0.05}),
        ({"student": 0.05, "tutor": 1}, {"student": 0.05, "tutor": 1}),
        ({"student": {"flsw": {}}}, {"student": {"flsw": {}}}),
        ({"flsw": {"base": 2}}, None),
        ({"constant": 2}, None),
        ({}, None),
    ],
)
def test_a_mapping_with_a_number_for_a_side_names_sides_even_misspelt(written, parameters):
    assert Temperature.from_plain(written) == (None if parameters is None else ("sides", parameters))


@pytest.mark.parametrize(
    ("temperature", "parameters"),
    [
        (ConstantTemperature, {"value": 0}),
        (ConstantTemperature, {"value": -1}),
        (ConstantTemperature, {}),
        (Flsw, {"base": 0}),
        (Flsw, {"gamma": -1}),
        (Cwsm, {"beta": -1}),
        (Cwsm, {"gamma": 1}),
        (SideTemperatures, {"student": 0}),
        (SideTemperatures, {"techer": 1}),
    ],
)
def test_an_impossible_temperature_is_refused(temperature, parameters):
    with pytest.raises(ValidationError):
        temperature.model_validate(parameters)
