"""Layer maps: known maps, and what holds for all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kdspec.api.kinds.context import BuildContext
from kdspec.builtins.matching.layer_maps import Explicit, First, Last, Skip, Uniform, kdspec_components
from kdspec.diagnostics.fault import Fault
from kdspec.planning.prepare import prepare
from kdspec.registry.registry import load_registry
from kdspec.source.extends import compose

FINE = Path(__file__).parent.parent.parent / "diagnostics" / "fine.yaml"

MAPS = (Uniform, Last, First, Skip)
DEPTHS = st.integers(1, 100).flatmap(lambda teacher: st.tuples(st.just(teacher), st.integers(1, teacher)))


def pairs(layer_map, teacher, student):
    return layer_map.build(BuildContext())(teacher, student)


@pytest.mark.parametrize(
    ("student", "expected"),
    [
        (3, [0, 4, 8, 12]),
        (4, [0, 3, 6, 9, 12]),
        (5, [0, 2, 5, 7, 10, 12]),
        (6, [0, 2, 4, 6, 8, 10, 12]),
        (12, list(range(13))),
    ],
)
def test_uniform_spaces_the_teachers_twelve_layers_evenly(student, expected):
    assert pairs(Uniform(), 12, student) == [(teacher, i) for i, teacher in enumerate(expected)]


def test_uniform_rounds_a_half_upwards():
    assert pairs(Uniform(), 5, 2) == [(0, 0), (3, 1), (5, 2)]


def test_last_takes_the_last_layers_without_the_embeddings():
    assert pairs(Last(), 12, 3) == [(10, 1), (11, 2), (12, 3)]


def test_first_takes_the_first_layers_and_the_embeddings():
    assert pairs(First(), 12, 3) == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_skip_takes_every_kth_layer():
    assert pairs(Skip(), 12, 5) == [(2, 1), (4, 2), (6, 3), (8, 4), (10, 5)]
    assert pairs(Skip(step=3), 12, 3) == [(3, 1), (6, 2), (9, 3)]


@given(st.sampled_from(MAPS), DEPTHS)
def test_layers_exist_grow_and_are_used_once(layer_map, depths):
    teacher, student = depths
    found = pairs(layer_map(), teacher, student)
    teachers, students = [t for t, _ in found], [s for _, s in found]
    assert all(0 <= t <= teacher for t in teachers)
    assert teachers == sorted(set(teachers))
    assert students == list(range(student + 1))[-len(students) :]
    assert len(students) in {student, student + 1}


@given(DEPTHS)
def test_uniform_ends_at_the_last_layer_and_rounds_by_no_more_than_a_half(depths):
    teacher, student = depths
    found = pairs(Uniform(), teacher, student)
    assert found[0] == (0, 0)
    assert found[-1] == (teacher, student)
    assert all(abs(t - i * teacher / student) <= 0.5 for t, i in found)


@pytest.mark.parametrize("layer_map", MAPS)
def test_a_student_without_layers_has_at_most_its_embeddings_matched(layer_map):
    assert pairs(layer_map(), 4, 0) in ([], [(0, 0)])


@pytest.mark.parametrize("layer_map", MAPS)
def test_a_student_deeper_than_its_teacher_is_a_fault(layer_map):
    with pytest.raises(Fault, match="the student has 6 layers, more than its teacher's 4") as caught:
        pairs(layer_map(), 4, 6)
    assert caught.value.code == "KD301"


def test_a_step_that_leaves_the_teacher_is_a_fault_at_the_step():
    with pytest.raises(Fault) as caught:
        pairs(Skip(step=5), 12, 3)
    assert caught.value.at == ("step",)
    assert caught.value.help == "4 is the largest step that fits"


def test_explicit_pairs_are_given_back_as_written():
    explicit = Explicit(pairs={0: 0, -1: 2})
    assert pairs(explicit, 12, 2) == [(0, 0), (-1, 2)]
    assert explicit.written() == {0: 0, -1: 2}


@pytest.mark.parametrize(
    ("feature", "layers", "expected"),
    [
        ("hidden", "{2: 1, -1: -1}", [(2, 1), (6, 2)]),
        ("attention", "{1: 0, -1: -1}", [(1, 0), (5, 1)]),
        ("hidden", "uniform", [(0, 0), (3, 1), (6, 2)]),
        ("attention", "uniform", [(2, 0), (5, 1)]),
    ],
)
def test_explicit_pairs_are_indices_and_those_of_a_map_layer_numbers(feature, layers, expected):
    """Attention has no embedding output, so layer 1 of a map is its index 0; what a spec spells out is not moved."""
    registry = load_registry(installed=False)
    loss = "hidden_mse" if feature == "hidden" else "attention_mse"
    at = "stages.distil.distiller.general.matches"
    sets = [f"{at}=[{{feature: {feature}, loss: {loss}, layers: {layers}}}]"]
    made = prepare(compose(FINE.read_text(encoding="utf-8"), str(FINE), FINE.parent, sets), registry)
    assert made.findings == ()
    assert [(*match.teacher_layers, *match.student_layers) for match in made.plan.stages[0].matches] == expected


def test_two_uses_of_a_map_do_not_share_their_list():
    build = Explicit(pairs={0: 0}).build(BuildContext())
    build(12, 2).clear()
    assert build(12, 2) == [(0, 0)]


@pytest.mark.parametrize("written", [{}, {"a": 1}, {0: "a"}, {0: 1.5}, {True: 1}, [0, 1]])
def test_pairs_that_are_not_of_whole_numbers_are_refused(written):
    with pytest.raises(ValidationError):
        Explicit.model_validate({"pairs": written})


def test_a_step_of_zero_is_refused():
    with pytest.raises(ValidationError):
        Skip(step=0)


def test_the_table_of_the_guide_has_the_pairs_of_each_map():
    guide = (Path(__file__).parents[3] / "docs" / "matching.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| `(\{[^`]*\})` \|", guide, re.MULTILINE))
    maps = {each.name: each for each in kdspec_components() if each.name != "explicit"}
    assert rows.keys() == maps.keys()
    for name, written in rows.items():
        assert dict(maps[name]().build(BuildContext())(12, 4)) == yaml.safe_load(written)
