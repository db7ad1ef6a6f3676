"""Models whose head is left to the losses learn what they would learn with all logits at once."""

from __future__ import annotations

import json

import pytest
import torch

from kdspec import HeadLogits, LogitLoss
from kdspec.api.working import logits as api_logits
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.forward import large_head
from kdspec.events import Evaluated, StepDone
from kdspec.ops import vocabulary
from kdspec.rehearsal.rehearse import rehearse
from kdspec.testing import registry, tiny

SPEC = """\
kdspec: 1
name: words
seed: 5
tasks:
  words: {masked_lm: {data: {json: {train: train.jsonl, validation: validation.jsonl}}, text: text, probability: 0.4}}
models:
  teacher: {transformers: {path: teacher}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 1}, initialize: {layers: [1]}}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        soft_labels: {loss: kl, temperature: 2}
        hard_labels: {weight: 0.5}
        matches: [{feature: hidden, loss: hidden_mse, layers: uniform}]
    training: {epochs: 2, batch_size: 4, accumulate: 2, log_every: 1, optimizer: {adamw: {lr: 0.01}}}
"""
TEXTS = ["a good film", "dull", "the plot was thin, and long", "nice", "very bad indeed", "good", "so so so so", "x"]
GENERAL = "stages.distil.distiller.general"
TRAINING = "stages.distil.training"


class Margin(LogitLoss):
    """How far logits are from those of the teacher, by a hinge. The mean over positions."""

    name = "margin"
    scope = "position"

    def build(self, context):
        from kdspec import Mean

        def loss(student, teacher, *, temperature):
            each = ((student - teacher.detach()).abs() / temperature - 0.1).clamp_min(0).square().sum(-1)
            return Mean(each.sum(), len(each), "labels")

        return loss


class Together(Margin):
    """The same of all positions together, so that it cannot be cut."""

    name = "together"
    scope = "micro_batch"


@pytest.fixture
def rows(tmp_path):
    """A tiny teacher and a few rows beside the spec."""
    tiny(tmp_path / "teacher", layers=2, width=16)
    for split, count in (("train", 8), ("validation", 6)):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS[:count])
        (tmp_path / f"{split}.jsonl").write_text(lines)


@pytest.fixture
def chunks(monkeypatch):
    """Leave heads of any size to the losses, in chunks of 3 positions; the sizes of the logits that were there, and whether with a graph."""
    sizes = []
    dense = HeadLogits.dense

    def spy(logits):
        sizes.append((logits.positions, torch.is_grad_enabled()))
        return dense(logits)

    def large():
        monkeypatch.setattr(large_head, "LEAST", 1)
        for module in (vocabulary, api_logits):
            monkeypatch.setattr(module, "chunk_size", lambda positions, classes: 3)
        monkeypatch.setattr(HeadLogits, "dense", spy)
        return sizes

    return large


def same(one, other, tolerance=1e-4):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=tolerance, atol=tolerance)


CHANGES = {
    "kl": (),
    "ce": (f"{GENERAL}.soft_labels.loss=ce",),
    "another package's loss": (f"{GENERAL}.soft_labels.loss=margin",),
    "labels alone": (f"{GENERAL}.soft_labels.weight=0", f"{GENERAL}.matches=[]"),
    "no layers": (f"{GENERAL}.matches=[]",),
    "attention": (f"{GENERAL}.matches=[{{feature: attention, loss: attention_mse, layers: {{1: 0}}}}]",),
    "lanes": (f"{TRAINING}.lanes=2",),
    "a narrow teacher": (f"{TRAINING}.teacher_precision=bf16",),
}


@pytest.mark.slow
@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("change", CHANGES)
def test_applying_a_large_head_in_the_losses_changes_nothing(change, launch, chunks):
    still = "models.student.transformers.config={num_hidden_layers: 1, hidden_dropout_prob: 0, attention_probs_dropout_prob: 0}"
    options = {"text": SPEC, "plugins": (Margin, Together)}
    whole = launch(still, *CHANGES[change], folder="whole", **options)
    sizes = chunks()
    parts = launch(still, *CHANGES[change], folder="parts", **options)
    assert not any(graph for _, graph in sizes), "a student's logits are never all there to learn from"
    looks = [size for size, _ in sizes if size > 3]
    assert looks.count(16) == (1 if change == "labels alone" else 2), "each model is looked at once"
    assert len(looks) <= 8, "and once, with one row, in each evaluation"
    tolerance = 2e-3 if change == "a narrow teacher" else 1e-4
    same(parts.weights, whole.weights, tolerance)
    for one, other in zip(parts.of(StepDone), whole.of(StepDone), strict=True):
        assert one.terms == pytest.approx(other.terms, rel=1e-2 if change == "a narrow teacher" else 1e-4, abs=1e-5)
    for one, other in zip(parts.of(Evaluated), whole.of(Evaluated), strict=True):
        assert one.metrics == pytest.approx(other.metrics, rel=1e-2 if change == "a narrow teacher" else 1e-4, abs=1e-5)


@pytest.mark.usefixtures("rows")
def test_a_loss_of_all_positions_together_gets_all_logits(launch, chunks):
    together = f"{GENERAL}.soft_labels.loss=together"
    still = "models.student.transformers.config={num_hidden_layers: 1, hidden_dropout_prob: 0, attention_probs_dropout_prob: 0}"
    whole = launch(still, together, folder="whole", text=SPEC, plugins=(Margin, Together))
    sizes = chunks()
    parts = launch(still, together, folder="parts", text=SPEC, plugins=(Margin, Together))
    same(parts.weights, whole.weights)
    assert any(graph for _, graph in sizes)


@pytest.mark.slow
@pytest.mark.usefixtures("rows")
def test_a_plan_knows_what_a_large_head_saves(session, chunks):
    planned = session(text=SPEC).plan
    whole = rehearse(planned, registry())
    chunks()
    parts = rehearse(planned, registry())
    assert [finding.code for finding in parts.findings] == [finding.code for finding in whole.findings]
    assert parts.stages[0].features["student"]["logits"] == whole.stages[0].features["student"]["logits"]
    assert parts.stages[0].unused == whole.stages[0].unused == ()


class Hidden(Margin):
    """The same with a parameter where nobody looks."""

    name = "hidden_factor"

    def build(self, context):
        inner = super().build(context)
        factor = torch.nn.Parameter(torch.ones(()))
        return lambda student, teacher, *, temperature: inner(factor * student, teacher, temperature=temperature)


@pytest.mark.usefixtures("rows")
def test_a_parameter_that_only_chunks_reach_is_an_error(launch, chunks):
    chunks()
    with pytest.raises(FindingError, match="would never be trained") as caught:
        launch(f"{GENERAL}.soft_labels.loss=hidden_factor", text=SPEC, plugins=(Hidden,))
    assert caught.value.findings[0].code == "KD510"
