"""Batches of similar length in whole runs: the gradient of random ones, and the notes about them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from kdspec.api.working.step import Features
from kdspec.engine.batches import build_sampler
from kdspec.engine.batches.build_sampler import split_cost
from kdspec.engine.run.stage_run import Interrupted
from kdspec.events import StepDone
from kdspec.testing import tiny

SPEC = """\
kdspec: 1
name: texts
tasks:
  texts:
    sequence_classification: {data: {json: {train: rows.jsonl}}, text: text, label: label}
models:
  teacher: {transformers: {path: teacher}}
  student: {transformers: {path: student, tokenizer: teacher}}
stages:
  distil:
    distiller:
      general:
        teacher: teacher
        student: student
        hard_labels: {weight: 0.5}
    training:
      {steps: 3, batch_size: 6, accumulate: 2, optimizer: {sgd: {lr: 0.1}}, evaluate: null, log_every: 1}
"""
GENERAL = "stages.distil.distiller.general"
TRAINING = "stages.distil.training"


@pytest.fixture
def texts(launch, tmp_path, monkeypatch):
    """Runs the spec with tiny models without dropout; cuts cost nothing, so that there are many."""
    monkeypatch.setattr(build_sampler, "split_cost", lambda *_: 0)
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    for seed, name in enumerate(("teacher", "student")):
        tiny(tmp_path / name, seed=seed, **off)
    rows = [{"text": "abc " * (1 + 7 * n % 11), "label": "xy"[n % 2] if n % 5 else None} for n in range(29)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return lambda *sets, **options: launch(*sets, text=SPEC, **options)


@pytest.mark.parametrize(
    "changes",
    [
        (f"{GENERAL}.matches=[{{feature: hidden, loss: hidden_mse, layers: {{1: 1}}}}]",),
        (f"{TRAINING}.batching.tokens=40",),
    ],
    ids=["match", "tokens"],
)
def test_splitting_leaves_the_gradient_unchanged(changes, texts):
    """With an incomplete last step, and rows without labels; `test_same_loss` has every loss."""
    whole = texts(
        *(change for change in changes if "tokens" not in change), f"{TRAINING}.batching=random", folder="one"
    )
    cut = texts(*changes, folder="cut")
    for one, other in zip(whole.of(StepDone), cut.of(StepDone), strict=True):
        assert len(other.micro_losses) > len(one.micro_losses)
        assert other.rows == one.rows
        assert other.tokens == one.tokens
        assert other.terms == pytest.approx(one.terms, rel=1e-5, abs=1e-7)
        assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-5)
    first, second = whole.weights, cut.weights
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=0, atol=1e-6, msg=name)


def test_a_budget_of_tokens_is_kept(texts, monkeypatch):
    seen = []
    from kdspec.engine.forward.model_runner import ModelRunner

    original = ModelRunner.__call__

    def spying(self: Any, batch: Any) -> Any:
        if torch.is_grad_enabled():  # the student as it trains, and not the look before it
            seen.append(batch.inputs[""]["input_ids"].numel())
        return original(self, batch)

    monkeypatch.setattr(ModelRunner, "__call__", spying)
    texts(f"{TRAINING}.batching.tokens=120")
    assert 0 < max(seen) <= 120


def test_a_run_reports_its_padding(texts):
    (told,) = [note for note in texts().notes if "padding" in note]
    assert told.startswith("stage `distil`: micro-batches of similar length: ")
    assert "in random batches" in told


def test_length_grouped_batches_are_reported_too(texts):
    ran = texts(f"{TRAINING}.batching=length_grouped")
    assert any("length-grouped batches" in note for note in ran.notes)
    assert [len(step.micro_losses) for step in ran.of(StepDone)][:2] == [2, 2]


def test_padding_of_random_batches_is_not_reported(texts):
    assert not any("padding" in note for note in texts(f"{TRAINING}.batching=random").notes)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["sorted_micro_batches", "length_grouped"])
def test_a_stopped_run_resumes_with_the_same_batches(by, texts, toys):
    changes = (f"{TRAINING}.batching={by}", f"{TRAINING}.steps=5", f"{TRAINING}.checkpoint.every_steps=1")
    whole = texts(*changes, folder="whole")
    with pytest.raises(Interrupted):
        texts(*changes, folder="stopped", plugins=(toys.StopAt(2),))
    resumed = texts(*changes, folder="stopped")
    assert all(torch.equal(resumed.weights[name], tensor) for name, tensor in whole.weights.items())


def test_batches_are_not_split_with_batch_norm_in_the_student():
    student = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert "normalises over the batch" in build_sampler._doubt(student, SimpleNamespace(heads=lambda _: ()))


def test_batches_with_logits_of_tokens_are_split_only_with_a_mask():
    features = Features({"logits": torch.zeros(2, 3, 4)})
    assert "logits_mask" in build_sampler._doubt(nn.Linear(2, 2), features)


def test_a_split_costs_fewer_tokens_for_a_wider_model():
    narrow, wide = (nn.Sequential(*(nn.Linear(width, width) for _ in range(6))) for width in (64, 512))
    assert split_cost(narrow, [], "cpu") > split_cost(wide, [], "cpu") > 0
    assert split_cost(wide, [], "cuda") > split_cost(wide, [], "cpu")
    assert split_cost(nn.ReLU(), [], "cpu") > 0
