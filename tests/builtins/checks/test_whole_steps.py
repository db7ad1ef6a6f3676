"""Which settings a loss over a whole optimizer step does not allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdspec import FeatureLoss
from kdspec.testing.specs import check

TINY = Path(__file__).parent.parent.parent / "data" / "tiny"
SPEC = """\
kdspec: 1
name: tiny
tasks:
  reviews: {sequence_classification: {data: {csv: {train: reviews.csv}}, text: sentence, label: label}}
models:
  teacher: {transformers: {path: teacher}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 2}}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student, matches: [MATCH]}}
    training: {epochs: 3, SETTING}
"""
MATCH = "{feature: hidden, loss: among_rows, layers: {1: 1}, weight: 2}"


class AmongRows(FeatureLoss):
    """Compares the rows of a step."""

    name = "among_rows"
    scope = "step"

    def build(self, context):
        raise AssertionError


def found(setting, match=MATCH):
    text = SPEC.replace("SETTING", setting).replace("MATCH", match)
    return [each for each in check(text, AmongRows, folder=TINY).diagnostics if each.code == "KD516"]


@pytest.mark.parametrize("setting", ["precision: fp16", "compile: true"])
def test_what_runs_a_student_otherwise_the_second_time_is_refused_before_a_run(setting):
    (one,) = found(setting)
    assert one.message == f"a loss of the scope `step` cannot be computed with `{setting}`"
    assert one.primary.span.line == SPEC.splitlines().index("    training: {epochs: 3, SETTING}")
    assert [label.text for label in one.secondary] == ["of the scope `step`"]


@pytest.mark.parametrize("setting", ["precision: bf16", "compile: false"])
def test_other_settings_are_allowed(setting):
    assert found(setting) == []


def test_other_losses_allow_every_setting():
    assert found("precision: fp16", MATCH.replace("among_rows", "hidden_mse")) == []
    assert found("precision: fp16", MATCH.replace("weight: 2", "weight: 0")) == []
