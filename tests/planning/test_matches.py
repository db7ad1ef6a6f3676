"""Matches become terms: presets, layer maps, pairs, projections, and what is said where they cannot."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdspec import FeatureLoss, LayerMap, MatchPreset, Model, ModelFacts, Projection
from kdspec.planning.prepare import prepare
from kdspec.source.extends import compose
from kdspec.testing import registry

SPEC = """\
kdspec: 1
name: expanded
tasks: {rows: {tensors: {data: {json: {train: rows.jsonl}}}}}
models:
  teacher: {sized: {layers: 6, width: 8, heads: 4}}
  student: {sized: {layers: 2, width: 4, heads: 2}}
adaptors:
  teacher: {logits: output.logits, hidden: output.hidden_states, attention: output.attentions, top: output.pooler_output}
  student: {logits: output.logits, hidden: output.hidden_states, attention: output.attentions, top: output.pooler_output, inputs_mask: batch.mask}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student, matches: []}}
    training: {steps: 1}
"""


class Sized(Model):
    """A model of which only the facts are asked."""

    name = "sized"
    layers: int | None = None
    """Number of layers."""
    width: int | None = None
    """Width."""
    heads: int | None = None
    """Attention heads."""

    def facts(self, context):
        return ModelFacts(layers=self.layers, width=self.width, heads=self.heads)

    def build(self, context):
        return nn.Identity()


class Broken(LayerMap):
    """A map that raises."""

    name = "broken"

    def build(self, context):
        return lambda teacher, student: [(teacher // (student - student), 0)]


class BrokenPreset(MatchPreset):
    """A preset that raises, or lists what is no match."""

    name = "broken_preset"
    raises: bool = True
    """Which of the two."""

    def build(self, context):
        if self.raises:
            raise LookupError("no list")
        return [{"feature": "hidden"}]


class Two(FeatureLoss):
    """A loss of two layers."""

    name = "two"
    arity = 2

    def build(self, context):
        return lambda student, teacher, *, mask: torch.zeros(())


class OverSteps(Projection):
    """A projection that asks for the rows of a whole step."""

    name = "over_steps"
    scope = "step"

    def build(self, context):
        return nn.Identity()


@pytest.fixture(scope="module")
def known():
    return registry(Sized, Broken, BrokenPreset, Two, OverSteps)


@pytest.fixture
def expand(known, tmp_path):
    """The planned matches of a list of matches, or the diagnostics."""
    (tmp_path / "rows.jsonl").write_text('{"x": 1}\n')

    def expanded(matches, *sets):
        changes = (f"stages.distil.distiller.general.matches={matches}", *sets)
        made = prepare(compose(SPEC, "spec.yaml", tmp_path, changes, {}), known)
        assert made.spec is not None, made.misshapen
        return made.findings if made.plan is None else made.plan.stages[0].matches

    return expanded


def layers(matches):
    return [(match.teacher_layers, match.student_layers) for match in matches]


def codes(found):
    return [diagnostic.code for diagnostic in found]


def test_a_mapping_makes_a_term_of_each_pair(expand):
    found = expand("[{feature: hidden, loss: cos, layers: {0: 0, 6: 2}}]")
    assert layers(found) == [((0,), (0,)), ((6,), (2,))]
    assert [match.term for match in found] == ["hidden.cos.0-0", "hidden.cos.6-2"]
    assert [match.path[-1] for match in found] == [0, 0]


def test_negative_indices_count_from_the_end(expand):
    assert layers(expand("[{feature: hidden, loss: cos, layers: {-1: -1}}]")) == [((6,), (2,))]
    assert layers(expand("[{feature: attention, loss: attention_mse_sum, layers: {-1: -1}}]")) == [((5,), (1,))]


def test_a_layer_map_is_turned_into_indices_of_the_feature(expand):
    """`hidden` has the embedding output before its layers, attention has none."""
    assert layers(expand("[{feature: hidden, loss: cos, layers: uniform}]")) == [
        ((0,), (0,)),
        ((3,), (1,)),
        ((6,), (2,)),
    ]
    assert layers(expand("[{feature: attention, loss: attention_mse_sum, layers: uniform}]")) == [
        ((2,), (0,)),
        ((5,), (1,)),
    ]


def test_a_two_layer_loss_takes_pairs_or_each_layer_with_itself(expand):
    (pair,) = expand("[{feature: hidden, loss: two, pairs: [{teacher: [0, 6], student: [0, -1]}]}]")
    assert (pair.teacher_layers, pair.student_layers, pair.term) == ((0, 6), (0, 2), "hidden.two.0-0.6-2")
    (itself,) = expand("[{feature: hidden, loss: mmd, layers: {6: 2}}]")
    assert (itself.teacher_layers, itself.student_layers, itself.term) == ((6, 6), (2, 2), "hidden.mmd.6-2")


def test_a_feature_as_a_whole_has_no_layers(expand):
    (match,) = expand("[{feature: top, loss: cos}]")
    assert (match.teacher_layers, match.student_layers, match.term) == ((), (), "top.cos.all")
    assert (match.projection, match.projection_origin) == (None, "unknown")


def test_names_of_terms_are_unique(expand):
    one = "{feature: hidden, loss: cos, layers: {6: 2}, weight: %s}"
    found = expand(f"[{one % 1}, {one % 2}, {one % 3}]")
    assert [match.term for match in found] == ["hidden.cos.6-2", "hidden.cos.6-2#2", "hidden.cos.6-2#3"]


@pytest.mark.parametrize(
    ("projection", "origin", "name"),
    [("", "derived", "linear"), (", projection: tanh", "written", "tanh")],
)
def test_differing_widths_are_projected(projection, origin, name, expand):
    (match,) = expand(f"[{{feature: hidden, loss: hidden_mse, layers: {{6: 2}}{projection}}}]")
    assert (match.projection_origin, match.projection.name) == (origin, name)
    assert (match.student_width, match.teacher_width) == (4, 8)


@pytest.mark.parametrize(
    ("match", "sets", "origin"),
    [
        ("{feature: hidden, loss: hidden_mse, layers: {6: 2}}", ("models.student.sized.width=8",), "unneeded"),
        (
            "{feature: hidden, loss: hidden_mse, layers: {6: 2}, projection: none}",
            ("models.student.sized.width=8",),
            "off",
        ),
        ("{feature: hidden, loss: mmd, layers: {6: 2}}", (), "unneeded"),
        ("{feature: hidden, loss: hidden_mse, layers: {6: 2}}", ("models.student.sized.width=null",), "unknown"),
        ("{feature: attention, loss: attention_mse_sum, layers: {5: 1}}", (), "unneeded"),
    ],
)
def test_there_is_no_projection_where_none_is_needed_or_known(match, sets, origin, expand):
    (found,) = expand(f"[{match}]", *sets)
    assert (found.projection, found.projection_origin) == (None, origin)


def test_a_preset_is_scaled_by_the_weight_of_its_match(expand):
    deep = ("models.teacher.sized.layers=12", "models.student.sized.layers=3")
    found = expand("[{preset: L3_hidden_mse, weight: 0.5}]", *deep)
    assert layers(found) == [((high,), (low,)) for high, low in ((0, 0), (4, 1), (8, 2), (12, 3))]
    assert {match.weight.value for match in found} == {0.5}


@pytest.mark.parametrize(
    ("match", "sets", "expected"),
    [
        ("{feature: hidden, loss: cos, layers: {7: 2}}", (), ["KD301"]),
        ("{feature: hidden, loss: cos, layers: {7: 3}}", (), ["KD301", "KD301"]),
        ("{feature: attention, loss: attention_mse_sum, layers: {6: 1}}", (), ["KD301"]),
        ("{feature: hidden, loss: cos, layers: uniform}", ("models.student.sized.layers=null",), ["KD301"]),
        ("{feature: hidden, loss: cos, layers: broken}", (), ["KD506"]),
        ("{preset: broken_preset}", (), ["KD506"]),
        ("{preset: {broken_preset: {raises: false}}}", (), ["KD203"]),
        ("{feature: hidden, loss: hidden_mse, layers: {6: 2}, projection: none}", (), ["KD302"]),
        ("{feature: hidden, loss: two, pairs: [{teacher: [1], student: [1, 2]}]}", (), ["KD304"]),
        ("{feature: hidden, loss: cos, pairs: [{teacher: [1, 2], student: [1, 2]}]}", (), ["KD304"]),
        ("{feature: hidden, loss: cos}", (), ["KD304"]),
        ("{feature: top, loss: cos, layers: {1: 1}}", (), ["KD304"]),
        ("{feature: nothing, loss: cos}", (), ["KD303", "KD303"]),
        ("{feature: attention, loss: attention_mse, layers: {5: 1}}", (), ["KD309"]),
        ("{feature: attention, loss: attention_mse_sum, layers: {5: 1}, projection: linear}", (), ["KD313"]),
        ("{feature: hidden, loss: cos, layers: {6: 2}, teacher: nobody}", (), ["KD204"]),
        ("{feature: hidden, loss: cos, layers: {6: 2}, projection: over_steps}", (), ["KD516"]),
    ],
)
def test_an_invalid_match_is_reported_at_its_place(match, sets, expected, expand):
    found = [d for d in expand(f"[{match}]", *sets) if d.severity == "error"]
    assert codes(found) == expected
    assert all(finding.at is not None for finding in found)


def test_one_bad_match_does_not_hide_another(expand):
    found = expand("[{feature: hidden, loss: cos, layers: {7: 2}}, {feature: hidden, loss: cos}]")
    assert sorted(codes(found)) == ["KD301", "KD304"]
