"""When a teacher cache may keep the largest logits alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdspec import Distiller, Needs, TaskNeeds
from kdspec.testing.specs import check

TINY = Path(__file__).parent.parent.parent / "data" / "tiny"
SPEC = """\
kdspec: 1
name: tiny
tasks:
  reviews: {sequence_classification: {data: {csv: {train: reviews.csv}}, text: sentence, label: label}}
models:
  teacher: {transformers: {path: teacher}}
  other: {transformers: {path: teacher}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 2}}}
stages:
  distil:
    distiller: STRATEGY
    training: {epochs: 3, teacher_cache: {top_k: 64}}
"""
GENERAL = "{general: {teacher: teacher, student: student, soft_labels: SOFT}}"
SEVERAL = "{multi_teacher: {teachers: [teacher, other], student: student, soft_labels: SOFT}}"
MATCH = "{general: {teacher: teacher, student: student, matches: [{feature: logits, loss: hidden_mse}]}}"
CACHE = ("stages", "distil", "training", "teacher_cache")


class Silent(Distiller):
    """Does not declare how it reads logits."""

    name = "silent"

    def needs(self):
        reads = {model: frozenset({"logits"}) for model in ("teacher", "student")}
        return Needs(student="student", tasks=(TaskNeeds(teachers=("teacher",), reads=reads),))

    def build(self, context):
        raise AssertionError


def found(strategy, soft="{}", training=None):
    text = SPEC.replace("STRATEGY", strategy).replace("SOFT", soft)
    text = text if training is None else text.replace("{epochs: 3, teacher_cache: {top_k: 64}}", training)
    return [d.message.partition(": ")[2] for d in check(text, Silent, folder=TINY).diagnostics if d.code == "KD315"]


@pytest.mark.parametrize(
    ("strategy", "soft"),
    [
        (GENERAL, "{loss: kl, temperature: 2}"),
        (GENERAL, "{loss: ce}"),
        (GENERAL, "{loss: mse, weight: 0}"),
        (SEVERAL, "{loss: kl, combine: losses}"),
    ],
)
def test_divergences_at_constant_temperatures_need_no_more(strategy, soft):
    assert found(strategy, soft) == []


@pytest.mark.parametrize(
    ("strategy", "soft", "why"),
    [
        (GENERAL, "{loss: mse}", "the loss `mse` compares all logits"),
        (GENERAL, "{loss: kl, temperature: {flsw: {base: 4}}}", "the temperature `flsw` depends on all logits"),
        (GENERAL, "{loss: kl, probability_shift: true}", "`probability_shift` moves the logit of the label"),
        (SEVERAL, "{loss: kl}", "those of several teachers are averaged"),
        (SEVERAL, "{loss: kl, combine: probabilities}", "those of several teachers are averaged"),
        (MATCH, "", "a match compares all logits"),
        ("{silent: {}}", "", "the strategy does not declare how it reads them"),
    ],
)
def test_what_needs_all_logits_is_refused(strategy, soft, why):
    assert {message.startswith(why) for message in found(strategy, soft)} == {True}


@pytest.mark.parametrize("training", ["{epochs: 3}", "{epochs: 3, teacher_cache: {use: off, top_k: 64}}"])
def test_without_the_largest_logits_in_a_cache_nothing_is_refused(training):
    assert found(GENERAL, "{loss: mse}", training) == []
