"""The points of a sweep and the names of their runs."""

from __future__ import annotations

import pytest

from kdspec.api.spec.names import rule_against
from kdspec.sweep.axis import grid_axis
from kdspec.sweep.sweep_point import SweepPoint, SweepRun, grid_points, swept_values


def test_a_grid_is_the_product_of_its_lists():
    points = list(grid_points([grid_axis("a.x=1,2"), grid_axis("a.y=3,4")]))
    assert [tuple(point.values.values()) for point in points] == [("1", "3"), ("1", "4"), ("2", "3"), ("2", "4")]
    assert points[0].label == "x=1, y=3"


def test_without_lists_there_is_one_point():
    (point,) = grid_points([])
    assert (point.slug, point.sets, SweepRun(point, 4).name) == ("", (), "seed-4")


def test_a_run_is_named_after_its_values_and_its_seed():
    run = SweepRun(SweepPoint({"stages.distil.temperature": "2", "stages.distil.lr": "1e-4"}), 3)
    assert run.name == "temperature-2_lr-1e-4_seed-3"
    assert run.sets == (
        "stages.distil.temperature=2",
        "stages.distil.lr=1e-4",
        "name=temperature-2_lr-1e-4_seed-3",
        "seed=3",
    )


def test_the_values_of_runs_are_known_as_data():
    points = [SweepPoint({"a.lr": "1e-4", "a.loss": loss}) for loss in ("kl", "{dkd: {alpha: 1}}", "'2'", "null")]
    runs = [SweepRun(point, seed) for seed in (1, 2) for point in points]
    found = swept_values(runs)
    assert list(found) == ["a.lr", "a.loss"]
    assert {*found["a.lr"].values()} == {1e-4}
    assert [found["a.loss"][run.name] for run in runs[:4]] == ["kl", {"dkd": {"alpha": 1}}, "2", None]
    assert len(found["a.loss"]) == 8


def test_equal_last_parts_are_told_apart():
    assert SweepPoint({"a.lr": "1", "b.lr": "2"}).label == "a.lr=1, b.lr=2"


@pytest.mark.parametrize(
    "text", ["{dkd: {alpha: 1, beta: 8}}", "'a b'", "../..", "x" * 300, "数据", "A", "-1", ".", "con", "1e+3"]
)
def test_any_value_makes_a_name_that_a_spec_can_have(text):
    point = SweepPoint({"stages.distil.loss": text})
    assert rule_against(SweepRun(point, 1).name) is None


def test_values_that_look_alike_in_a_name_have_different_ones():
    texts = ["a b", "a-b", "a/b", "A-b", "a..b", "x" * 300, "x" * 301, "{a: 1}", "{a: 2}", "1e+3", "1e3"]
    slugs = [SweepPoint({"loss": text}).slug for text in texts]
    assert len({slug.lower() for slug in slugs}) == len(texts)
