"""Specs in the YAML language server that editors use: completion, hover and errors, by the schema of kdspec."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

MODELINE = "# yaml-language-server: $schema=kdspec.schema.json\n"
GENERAL = f"""{MODELINE}extends: base.yaml
stages:
  distil:
    distiller:
      general:
"""
TRAINING = f"{MODELINE}extends: base.yaml\nstages:\n  distil:\n    training:\n"


def indented(text: str, depth: int = 8) -> str:
    return "".join(" " * depth + line + "\n" for line in text.splitlines())[:-1]


def general(text: str) -> str:
    """A spec with `text` below the distiller `general`, on lines 7 and following as an editor counts."""
    return GENERAL + indented(text)


def test_an_empty_spec_is_offered_the_top_keys(editor):
    found = editor.completions(MODELINE + "|")
    assert {"kdspec", "name", "seed", "tasks", "models", "adaptors", "stages", "extends"} <= set(found)


def test_a_component_is_completed_with_the_parameters_that_it_needs(editor):
    found = editor.completions(f"{MODELINE}kdspec: 1\nstages:\n  distil:\n    distiller:\n      |")
    assert {"general", "supervised"} <= set(found)
    assert found["general"]["insertText"] == "general:\n  teacher: $1\n  student: $2"
    assert "One teacher, one student" in found["general"]["documentation"]["value"]


@pytest.mark.parametrize("place", ["soft_labels:\n  loss: |", "soft_labels: {loss: |}", "soft_labels:\n  loss:\n    |"])
def test_names_of_components_are_completed_and_described(editor, place):
    found = editor.completions(general(place))
    assert {"ce", "kl", "mse"} <= set(found)
    assert "KL divergence" in found["kl"]["documentation"]["value"]


def test_parameters_of_a_component_are_completed(editor):
    found = editor.completions(general("soft_labels:\n  temperature:\n    flsw:\n      |"))
    assert {"base", "beta", "gamma"} <= set(found)
    assert "from 0.001" in found["base"]["documentation"]["value"]


def test_keys_in_a_list_of_matches_are_completed(editor):
    found = editor.completions(general("matches:\n  - |"))
    assert {"feature", "loss", "layers", "pairs", "weight", "projection", "preset"} <= set(found)


@pytest.mark.parametrize(
    ("place", "values"),
    [("precision", {"fp32", "bf16", "fp16"}), ("normalize", {"step", "micro_batch"}), ("shuffle", {"true", "false"})],
)
def test_values_are_completed(editor, place, values):
    assert values <= set(editor.completions(f"{TRAINING}      {place}: |"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("|soft_labels: {}", "Soft labels: the student learns the teacher's logits."),
        ("soft_labels: {|loss: kl}", "* `kl`: KL divergence of the student from the teacher"),
        ("soft_labels: {loss: |kl}", "* `kl`: KL divergence of the student from the teacher"),
        ("soft_labels: {loss: {|kl: {}}}", "Hinton et al. 2015"),
        ("soft_labels: {temperature: {flsw: {|beta: 1}}}", "How far the rows move away from `base`"),
        ("soft_labels: {temperature: {flsw: {|beta: 1}}}", "Default: `1.0`"),
        ("matches: [{|layers: uniform}]", "Which layers"),
    ],
)
def test_what_is_under_the_mouse_is_explained(editor, text, shown):
    assert shown in editor.hover(general(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("soft_lables: {}", "Property soft_lables is not allowed."),
        ("soft_labels: {los: kl}", "Property los is not allowed."),
        ("soft_labels: {loss: {kl: {nope: 1}}}", "Property nope is not allowed."),
        ("soft_labels: {loss: kll}", "unknown logit loss; write a name"),
        ("soft_labels: {loss: {kll: {}}}", "unknown logit loss; write a name"),
        ("soft_labels: {weight: {linear_decay: {from: many}}}", "expected a number"),
        ("soft_labels: {probability_shift: 1}", "expected `true` or `false`"),
        ("matches: [{feature: hidden, loss: cos, layers: {4: first}}]", "expected an integer"),
    ],
)
def test_a_mistake_is_marked_in_its_line(editor, text, message):
    ((line, told),) = editor.errors(general(text))
    assert line == GENERAL.count("\n")
    assert told.startswith(message)


def test_a_value_that_is_not_offered_is_marked(editor):
    ((_, told),) = editor.errors(f"{TRAINING}      precision: bf17\n")
    assert "fp32" in told
    assert "bf16" in told


def test_missing_keys_are_marked(editor):
    told = [message for _, message in editor.errors(f"{MODELINE}kdspec: 1\nname: a\n")]
    assert told == [f'Missing property "{key}".' for key in ("tasks", "models", "stages")]


@pytest.mark.parametrize(
    "text",
    [
        "soft_labels: {loss: kl, temperature: 8, weight: linear_decay}",
        "soft_labels:",
        "soft_labels: {temperature: '${T:-4}', loss: kdspec/kl}",
        "matches: [{feature: hidden, loss: cos, layers: {6: 2, -1: -1}, projection: none}]",
        "matches: [{feature: hidden, loss: mmd, pairs: [{teacher: [0, 4], student: 1}]}]",
    ],
)
def test_nothing_is_marked_in_what_is_right(editor, text):
    assert editor.errors(general(text)) == []
