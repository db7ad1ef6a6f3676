"""How a stage's batches are chosen, and why."""

from __future__ import annotations

from typing import Any

import pytest

from kdspec import Distiller, LogitLoss, Needs, TaskNeeds
from kdspec.planning.micro_batching import batches
from kdspec.planning.outline import outline
from kdspec.planning.prepare import prepare
from kdspec.source.extends import compose
from kdspec.testing import registry, tiny

SPEC = """\
kdspec: 1
name: batches
tasks: {texts: {sequence_classification: {data: {json: {train: rows.jsonl}}, text: text, label: label}}}
models: {teacher: {transformers: {path: teacher}}, student: {transformers: {like: teacher}}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        matches:
          - {feature: hidden, loss: hidden_mse, layers: {2: 2}}
    training: {epochs: 1}
"""
GENERAL = "stages.distil.distiller.general"
TRAINING = "stages.distil.training"


class Ranking(LogitLoss):
    """A loss that compares the rows of a batch."""

    name = "ranking"

    def build(self, context: Any) -> Any:
        return lambda student, teacher, *, temperature: (student - student.mean(0) - teacher).square().mean()


class Squares(LogitLoss):
    """A loss that takes each row by itself."""

    name = "squares"
    scope = "row"

    def build(self, context: Any) -> Any:
        raise AssertionError


class Own(Distiller):
    """A strategy of somebody else."""

    name = "own"
    model: str
    """The model that trains."""

    def needs(self):
        return Needs(student=self.model, tasks=(TaskNeeds(reads={self.model: frozenset({"logits"})}),))

    def build(self, context: Any) -> Any:
        raise AssertionError


class WholeStep(Squares):
    """A loss of logits that asks for the rows of a step, which only losses of matches can get."""

    name = "whole_step"
    scope = "step"


@pytest.fixture
def planned(tmp_path):
    """The plan of the spec with changes, and its warnings."""
    tiny(tmp_path / "teacher")
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')

    def plan(*sets: str):
        known = registry(Ranking, Squares, WholeStep, Own)
        made = prepare(compose(SPEC, "spec", tmp_path, sets), known)
        assert made.plan is not None, made.errors
        return made.plan, [each for each in made.findings if each.code == "KD320"]

    return plan


def chosen(plan):
    return batches(plan, plan.stages[0].tasks["texts"])


def test_batches_are_split_for_losses_that_are_sums_over_rows(planned):
    plan, warnings = planned()
    assert chosen(plan).name == "sorted_micro_batches"
    assert not warnings


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (f"{GENERAL}.soft_labels.temperature=flsw", "the temperature `flsw` may compute on several rows together"),
        (f"{GENERAL}.soft_labels.loss=ranking", "the logit loss `ranking` may compute on several rows together"),
        (
            f"{GENERAL}.matches=[{{feature: hidden, loss: {{mmd: {{scale: length}}}}, layers: {{2: 2}}}}]",
            "the feature loss `mmd` may compute on several rows together",
        ),
        (f"{TRAINING}.normalize=micro_batch", "`normalize: micro_batch` gives micro-batches, not rows, equal weights"),
        ("stages.distil.distiller={own: {model: student}}", "the distiller `own` may compute on several rows together"),
        (
            "adaptors={student: {logits: output.logits, hidden: output.hidden_states}}",
            "matches average over padding too, since the adaptor of `student` has no `inputs_mask`",
        ),
        (
            "stages.distil.distiller={supervised: {model: student}}, adaptors={student: {losses: output.loss}}",
            "`student` returns its own loss, which may be computed on several rows together",
        ),
    ],
)
def test_batches_are_not_split_for_losses_over_several_rows(change, why, planned):
    plan, warnings = planned(*change.split(", adaptors=", 1)[:1], *_adaptors(change))
    assert (chosen(plan).name, chosen(plan).doubt) == ("random", why)
    assert why in outline(plan)["stages"][0]["batching"]["why"]
    assert not warnings


def test_batches_are_split_for_a_row_wise_loss_of_a_plugin(planned):
    plan, _ = planned(f"{GENERAL}.soft_labels.loss=squares")
    assert chosen(plan).name == "sorted_micro_batches"


def _adaptors(change: str) -> list[str]:
    _, found, rest = change.partition(", adaptors=")
    return [f"adaptors={rest}"] if found else []


def test_weight_0_needs_no_labels_of_rows(planned):
    plan, _ = planned(f"{GENERAL}.hard_labels.weight=0.5")
    assert chosen(plan).name == "sorted_micro_batches"


@pytest.mark.parametrize("by", ["random", "length_grouped", "sorted_micro_batches"])
def test_what_is_written_is_done(by, planned):
    plan, _ = planned(f"{TRAINING}.batching={by}")
    assert (chosen(plan).name, chosen(plan).chosen) == (by, False)
    assert outline(plan)["stages"][0]["training"]["batching"] == {"value": by, "origin": "written"}


def test_a_budget_of_tokens_splits_batches(planned):
    plan, warnings = planned(f"{TRAINING}.batching.tokens=64")
    assert chosen(plan).splits
    assert chosen(plan).tokens == 64
    assert not warnings


@pytest.mark.parametrize("batching", ["sorted_micro_batches", "{tokens: 64}", "{by: length_grouped, tokens: 64}"])
def test_written_splitting_that_may_change_the_gradient_is_a_warning(batching, planned):
    _, (warning,) = planned(f"{TRAINING}.batching={batching}", f"{GENERAL}.soft_labels.temperature=cwsm")
    assert warning.severity == "warning"
    assert "the temperature `cwsm` may compute on several rows together" in warning.message


def test_what_models_show_changes_a_choice_and_leaves_what_is_written(planned):
    auto, _ = planned()
    assert chosen(auto).doubted("a reason").name == "random"
    written, _ = planned(f"{TRAINING}.batching=sorted_micro_batches")
    assert chosen(written).doubted("a reason").name == "sorted_micro_batches"
    assert chosen(written).doubted("a reason").doubt == "a reason"


def test_the_plan_shows_the_choice(planned):
    plan, _ = planned()
    (stage,) = outline(plan)["stages"]
    assert stage["training"]["batching"] == {"value": "sorted_micro_batches", "origin": "derived"}
    assert "the gradient is that of random batches" in stage["batching"]["why"]


def test_the_rows_of_a_step_are_promised_to_losses_of_matches_alone(planned):
    plan, _ = planned(f"{GENERAL}.soft_labels={{loss: whole_step}}")
    assert chosen(plan).name == "random"
    assert "`whole_step` may compute on several rows together" in chosen(plan).why
