"""The validation metric by the value of a setting."""

from __future__ import annotations

import math
import statistics

import pytest

from kdspec.report.comparison.compared_run import read_run
from kdspec.report.comparison.setting_effect import setting_effects
from kdspec.report.comparison.variant import compare

PATH = "stages.distil.distiller.general.soft_labels.temperature"


def effects(*folders, swept=None):
    return list(setting_effects(compare(map(read_run, folders)), swept))


def swept_runs(folder_of_run, values, *, seeds=(1,), accuracy=lambda value, seed: 0.5):
    """Folders of runs with these values of a setting, and what the sweep knows of them."""
    folders, known = [], {}
    for number, value in enumerate(values):
        for seed in seeds:
            name = f"r{number}-s{seed}"
            made = folder_of_run(name, changes={"m": {"x": value}}, seed=seed, accuracy=accuracy(value, seed))
            folders.append(made)
            known[name] = value
    return folders, {"models.m.x": known}


def test_a_value_has_the_mean_of_its_runs_and_the_deviation_over_seeds(folder_of_run):
    folders, swept = swept_runs(
        folder_of_run, [2, 4], seeds=(1, 2, 3), accuracy=lambda value, seed: (value + seed) / 10
    )
    (effect,) = effects(*folders, swept=swept)
    assert effect.path == "models.m.x"
    assert [each.value for each in effect.values] == [2, 4]
    first = effect.values[0]
    assert [run.name for run in first.runs] == ["r0-s1", "r0-s2", "r0-s3"]
    assert first.figure.mean == pytest.approx(0.4)
    assert first.deviation == pytest.approx(statistics.stdev([0.3, 0.4, 0.5]))


def grid(folder_of_run, seeds):
    """Two settings with two values each: the second one moves the metric much, the seed little."""
    return [
        folder_of_run(
            f"t{t}-x{x}-s{seed}", temperature=t, changes={"m": {"x": x}}, seed=seed, accuracy=x / 2 + seed / 100
        )
        for t in (2, 4)
        for x in (0, 1)
        for seed in seeds(t, x)
    ]


def test_of_several_settings_the_deviation_is_that_of_the_mean_over_seeds(folder_of_run):
    first, second = effects(*grid(folder_of_run, lambda t, x: (1, 2)))
    assert {first.path, second.path} == {"models.m.x", PATH}
    of_temperature = next(effect for effect in (first, second) if effect.path == PATH)
    assert [len(value.variants) for value in of_temperature.values] == [2, 2]
    assert of_temperature.values[0].figure.mean == pytest.approx(0.265)
    assert of_temperature.values[0].deviation == pytest.approx(statistics.stdev([0.26, 0.27]))


def test_variants_with_other_seeds_have_no_deviation_in_common(folder_of_run):
    found = effects(*grid(folder_of_run, lambda t, x: (1, 2) if (t, x) != (2, 0) else (1,)))
    values = next(effect for effect in found if effect.path == PATH).values
    assert [value.deviation is None for value in values] == [True, False]


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1, 100], "linear"), ([1, 101], "logarithmic"), ([1e-5, 0.001], "linear"), ([1e-5, 1e-3, 1e-2], "logarithmic"),
        ([0, 1000], "linear"), ([-5, 1000], "linear"), ([1, None], "categories"), ([True, False], "categories"),
        ([1, "2"], "categories"), ([1, [2, 3]], "categories"), ([{"a": 1}, {"b": {"c": 2}}], "categories"),
        ([1, math.inf], "categories"), ([1, 10**400], "categories"),
    ],
)  # fmt: skip
def test_the_axis_follows_from_the_values(folder_of_run, values, scale):
    folders = [folder_of_run(f"r{n}", temperature=float(n + 1)) for n in range(len(values))]
    swept = {"x": {f"r{n}": value for n, value in enumerate(values)}}
    (effect,) = effects(*folders, swept=swept)
    assert effect.scale == scale


def test_unfinished_runs_and_those_without_a_finite_metric_are_left_out(folder_of_run):
    folders = [
        folder_of_run("a", temperature=1), folder_of_run("b", temperature=2), folder_of_run("c", temperature=3, ends="failed"),
        folder_of_run("d", temperature=4, accuracy=math.nan), folder_of_run("e", temperature=5, accuracy=math.inf),
    ]  # fmt: skip
    (effect,) = effects(*folders)
    assert [value.value for value in effect.values] == [1, 2]


def test_two_swept_values_of_one_complete_setting_stay_apart(folder_of_run):
    folders = [folder_of_run("a", temperature=2), folder_of_run("b", temperature=2, seed=2)]
    (effect,) = effects(*folders, swept={"x": {"a": None, "b": 2}})
    assert [(value.text, [*value.variants]) for value in effect.values] == [("null", [0]), ("2", [0])]


def test_one_value_or_no_common_metric_has_no_effect(folder_of_run):
    one, other = folder_of_run("a", temperature=2), folder_of_run("b", temperature=4)
    assert effects(one, other, swept={"x": {"a": 1, "b": 1.0}}) == []
    assert effects(one, folder_of_run("c", temperature=3, metric="f1")) == []
    assert effects(one, other, swept={}) == []


def test_more_differences_than_variants_have_no_effects_that_could_be_told_apart(folder_of_run):
    one = folder_of_run("a", temperature=2, changes={"m": {"x": 1, "y": 1}})
    other = folder_of_run("b", temperature=4, changes={"m": {"x": 2, "y": 2}})
    assert effects(one, other) == []
