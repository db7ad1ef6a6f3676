"""Matches on what any module takes or gives, from end to end: trained, checkpointed, stopped and gone on with."""

from __future__ import annotations

import pytest
import torch

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.stage_run import Interrupted
from kdspec.events import StepDone
from kdspec.testing import tiny

TRAINING = "stages.distil.training"
MATCHES = "stages.distil.distiller.general.matches"

TEXTS = """\
kdspec: 1
name: modules
tasks: {texts: {sequence_classification: {data: {csv: {train: rows.csv}}, text: text, label: label}}}
models:
  teacher: {transformers: {path: ./tiny}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 2, hidden_size: 8}}}
adaptors:
  teacher:
    logits: output.logits
    value: modules["bert.encoder.layer.2.attention.self.value"].output
    inner: modules["bert.encoder.layer.1.intermediate"].output
  student:
    logits: output.logits
    labels: batch.labels
    inputs_mask: batch.attention_mask
    value: modules["bert.encoder.layer.1.attention.self.value"].output
    inner: modules["bert.encoder.layer.0.intermediate"].output
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        matches:
          - {feature: value, loss: hidden_mse, weight: 2}
          - {feature: inner, loss: cos}
    training: {steps: 4, batch_size: 2, accumulate: 2, log_every: 1, evaluate: null}
"""

TOYS = """\
kdspec: 1
name: modules
tasks: {rows: {tensors: {data: {ragged: {}}, labels: label}}}
models:
  teacher: {toy: {width: 6, depth: 3}}
  student: {toy: {dropout: 0.1}}
adaptors:
  teacher: {logits: output.logits, before: 'modules["layers.2.linear"].output'}
  student:
    logits: output.logits
    inputs_mask: batch.mask
    labels: batch.label
    before: modules["layers.1.linear"].output
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        matches: [{feature: before, loss: hidden_mse, projection: tanh}]
    training: {steps: 4, batch_size: 2, accumulate: 2, log_every: 1, evaluate: null}
"""


@pytest.fixture
def texts(tmp_path):
    tiny(tmp_path / "tiny", layers=3, hidden_dropout_prob=0.1)
    (tmp_path / "rows.csv").write_text("text,label\ngood,yes\nbad,no\nfine it is,yes\nawful,no\nwell,yes\n")
    return TEXTS


def test_any_module_of_a_transformers_model_can_be_matched(texts, launch):
    """The attention's values and the inside of a feed-forward layer, with projections for widths seen first in a run."""
    ran = launch(text=texts)
    first, *_, last = ran.of(StepDone)
    assert set(first.terms) == {"soft_labels", "value.hidden_mse.all", "inner.cos.all"}
    assert last.terms["value.hidden_mse.all"] < first.terms["value.hidden_mse.all"]
    projections = {
        name: tuple(tensor.shape)
        for name, tensor in ran.checkpoint(4).items()
        if "projection" in name and tensor.ndim > 1
    }
    assert sorted(projections.values()) == [(16, 8)]  # feed-forward layers are equally wide in both


def test_a_match_on_a_module_reaches_what_is_below_it_and_nothing_else(texts, launch, same):
    before = launch(f"{TRAINING}.optimizer={{sgd: {{lr: 1.0e-30}}}}", text=texts, folder="before").weights
    alone = (
        "stages.distil.distiller.general.soft_labels={weight: 0}",
        f"{MATCHES}=[{{feature: inner, loss: cos}}]",
        f"{TRAINING}.optimizer={{sgd: {{lr: 1}}}}",
    )
    unread = "adaptors.teacher={logits: output.logits, inner: 'modules[\"bert.encoder.layer.1.intermediate\"].output'}"
    after = launch(*alone, unread, text=texts).weights
    changed = {name for name in after if not torch.allclose(after[name], before[name], rtol=0, atol=1e-20)}
    assert {
        "bert.encoder.layer.0.intermediate.dense.weight",
        "bert.encoder.layer.0.attention.self.value.weight",
    } <= changed
    assert not [name for name in changed if "layer.0.output" in name or "layer.1" in name or "classifier" in name]


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("texts", ()),
        ("texts", (f"{TRAINING}.gradient_checkpointing=true",)),
        ("toys", ()),
    ],
    ids=["transformers", "transformers, activations recomputed", "a module of a plugin"],
)
def test_a_run_with_such_matches_resumes_bit_for_bit(text, sets, texts, launch, session, toys, same):
    text = {"texts": texts, "toys": TOYS}[text]
    whole = launch(*sets, text=text, folder="whole")
    with pytest.raises(Interrupted):
        session(*sets, text=text, plugins=[toys.StopAt(2)]).run()
    ran = launch(*sets, text=text)
    assert same.bits(whole.weights, ran.weights)
    assert same.bits(whole.checkpoint(4), ran.checkpoint(4))


def test_recomputed_activations_change_nothing(texts, launch, same):
    """A captured output belongs to the graph of the first forward pass, whatever is computed again."""
    plain = launch(text=texts, folder="plain")
    recomputed = launch(f"{TRAINING}.gradient_checkpointing=true", text=texts)
    assert same.close(plain.weights, recomputed.weights, tolerance=1e-6)


def test_a_plugins_module_is_matched_before_its_activation(launch):
    ran = launch(f"{TRAINING}.steps=20", f"{TRAINING}.optimizer={{adamw: {{lr: 0.05}}}}", text=TOYS)
    terms = [event.terms["before.hidden_mse.all"] for event in ran.of(StepDone)]
    assert terms[-1] < terms[0]
    assert ran.checkpoint(20)["objective.matches.0.projection.0.weight"].shape == (6, 4)


def test_a_missing_module_is_reported_with_the_nearest_name(texts, launch):
    wrong = 'adaptors.student.value=modules["bert.encoder.layer.1.attention.self.values"].output'
    with pytest.raises(FindingError) as caught:
        launch(wrong, text=texts)
    (found,) = caught.value.findings
    assert found.code == "KD303"
    assert found.help == "did you mean `bert.encoder.layer.1.attention.self.value`?"
