"""Presets by the names of other libraries: short for matches that a spec could write itself."""

from __future__ import annotations

import pytest

from kdspec import BuildContext
from kdspec.builtins.matching.compat_presets import kdspec_components
from kdspec.events import StepDone

PRESETS = {component.name: component for component in kdspec_components()}
GENERAL = "stages.distil.distiller.general"
ADAPTORS = ("adaptors.teacher.embedding=output.embedding", "adaptors.student.embedding=output.embedding")
MSE = {"embedding_mse": {"over": "elements"}}


@pytest.mark.parametrize(
    ("name", "parameters", "loss"),
    [
        ("sentence_transformers.embed_distill", {}, "cos"),
        ("sentence_transformers.embed_distill", {"metric": "l2"}, "embedding_l2"),
        ("sentence_transformers.embed_distill", {"metric": "mse"}, MSE),
        ("sentence_transformers.mse", {}, MSE),
    ],
)
def test_a_preset_is_short_for_one_match(name, parameters, loss):
    assert PRESETS[name](**parameters).build(BuildContext()) == [{"feature": "embedding", "loss": loss}]


@pytest.mark.parametrize(
    ("preset", "loss"),
    [
        ("sentence_transformers.mse", "{embedding_mse: {over: elements}}"),
        ("{sentence_transformers.embed_distill: {metric: cosine}}", "cos"),
    ],
)
def test_a_run_with_a_preset_is_that_with_its_match(preset, loss, launch, same):
    short = launch(*ADAPTORS, f"{GENERAL}.matches=[{{preset: {preset}, weight: 2}}]", folder="short")
    long = launch(*ADAPTORS, f"{GENERAL}.matches=[{{feature: embedding, loss: {loss}, weight: 2}}]", folder="long")
    assert same.bits(short.checkpoint(6), long.checkpoint(6))
    assert [each.terms for each in short.of(StepDone)] == [each.terms for each in long.of(StepDone)]
