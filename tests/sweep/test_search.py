"""Points that Optuna samples: reproducible, kept in the folder, and better where it learns."""

from __future__ import annotations

import sys

import pytest

from kdspec.sweep.axis import AxisError, grid_axis, range_axis
from kdspec.sweep.search import PointSearch, imported

AXES = [grid_axis("loss=kl,{dkd: {beta: 8}}"), range_axis("lr=1e-5..1e-3:log"), range_axis("layers=1..4")]


def drawn(search, number):
    return [search.draw().values for _ in range(number)]


def test_points_are_within_the_lists_and_ranges():
    for values in drawn(PointSearch(None, AXES, "random", 1), 20):
        assert values["loss"] in ("kl", "{dkd: {beta: 8}}")
        assert 1e-5 <= float(values["lr"]) <= 1e-3
        assert values["layers"] in ("1", "2", "3", "4")


def test_a_sample_is_a_function_of_the_seed():
    one, again, other = (drawn(PointSearch(None, AXES, "random", seed), 5) for seed in (1, 1, 2))
    assert one == again
    assert one != other


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_search_that_was_stopped_goes_on_as_one_that_was_not(sampler, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    def value(point):
        return -abs(float(point.values["lr"]) - 1e-4)

    whole = PointSearch(tmp_path / "a", AXES, sampler, 1)
    points = []
    for _ in range(14):
        points.append(whole.draw())
        whole.tell(points[-1].trial, value(points[-1]))
    resumed = []
    for _ in range(14):
        search = PointSearch(tmp_path / "b", AXES, sampler, 1)
        resumed.append(search.draw())
        search.tell(resumed[-1].trial, value(resumed[-1]))
    assert resumed == points


def test_tpe_prefers_the_neighbourhood_of_good_points():
    axes = [range_axis("x=0.0..1.0")]
    late = {}
    for sampler in ("random", "tpe"):
        search = PointSearch(None, axes, sampler, 3)
        found = []
        for _ in range(40):
            point = search.draw()
            found.append(abs(float(point.values["x"]) - 0.3))
            search.tell(point.trial, -found[-1])
        late[sampler] = sum(found[20:]) / 20
    assert late["tpe"] < 0.6 * late["random"]


def test_an_end_is_told_once_and_lost_trials_are_ended(tmp_path):
    search = PointSearch(tmp_path, AXES, "random", 1)
    first, second, lost = search.draw(), search.draw(), search.draw()
    search.tell(first.trial, 0.5)
    search.tell(first.trial, 0.7)
    search.tell(second.trial, None, stopped=True)
    again = PointSearch(tmp_path, AXES, "random", 1)
    again.forget([first.trial, second.trial])
    states = [trial.state.name for trial in again.study.get_trials()]
    assert states == ["COMPLETE", "PRUNED", "FAIL"]
    assert again.study.best_value == 0.5
    assert again.draw().trial == lost.trial + 1


def test_without_optuna_the_command_to_install_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(AxisError, match=r"pip install 'kdspec\[sweep\]'"):
        imported()
