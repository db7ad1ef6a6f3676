"""Micro-batches side by side: the numbers of one after another, the same bits in every run, or a note why not."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import torch
from torch import nn

from kdspec import Distiller, FeatureLoss, Needs, Objective, TaskNeeds, Term
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.processes.backend import SingleProcess
from kdspec.engine.run.stage_run import Interrupted
from kdspec.engine.step import embedding_gradients
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
        matches:
          - {feature: hidden, loss: hidden_mse, layers: {2: 1}, projection: linear}
          - {feature: hidden, loss: mmd, layers: {0: 0}}
    training:
      {steps: 4, batch_size: 6, optimizer: {adamw: {lr: 0.01}}, evaluate: null, log_every: 1, lanes: 2}
"""
GENERAL = "stages.distil.distiller.general"
TRAINING = "stages.distil.training"
ONE = f"{TRAINING}.lanes=1"


class Drawing(FeatureLoss):
    """A loss for which a random number is drawn from the global generator."""

    name = "drawing"
    same_width = False

    def build(self, context: Any) -> Any:
        return lambda student, teacher, *, mask: student.square().mean() * (1 + torch.rand(())) + 0 * teacher.sum()


class Elsewhere(FeatureLoss):
    """A loss that raises outside of the main thread."""

    name = "elsewhere"
    same_width = False

    def build(self, context: Any) -> Any:
        def loss(student, teacher, *, mask):
            if threading.current_thread() is not threading.main_thread():
                raise ValueError("not here")
            return student.square().mean() + 0 * teacher.sum()

        return loss


class Rooted(FeatureLoss):
    """The square root of 0, which has an infinite gradient."""

    name = "rooted"
    same_width = False

    def build(self, context: Any) -> Any:
        return lambda student, teacher, *, mask: (student.sum() * 0).sqrt() + 0 * teacher.sum()


class Counting(FeatureLoss):
    """A loss with a buffer that changes with each batch."""

    name = "counting"
    same_width = False

    def build(self, context: Any) -> Any:
        class Loss(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("seen", torch.zeros(()))

            def forward(self, student, teacher, *, mask):
                self.seen += 1
                return student.square().mean() + 0 * teacher.sum()

        return Loss()


class Own(Distiller):
    """A strategy with an objective of its own."""

    name = "own"
    student: str
    """The model."""
    declared: bool = False
    """Whether the objective declares that it keeps nothing."""

    def needs(self):
        return Needs(student=self.student, tasks=(TaskNeeds(reads={self.student: frozenset({"logits"})}),))

    def build(self, context):
        keeps_nothing = self.declared

        class Size(Objective):
            def forward(self, step):
                return {"size": Term(step.student["logits"].dense().square().mean())}

        made = Size()
        made.keeps_nothing = keeps_nothing
        return made


@pytest.fixture
def texts(launch, tmp_path):
    """Runs the spec with tiny models; with `dropout=False` they have none."""

    def launched(*sets, dropout=True, **options):
        rate = 0.1 if dropout else 0.0
        for seed, name in enumerate(("teacher", "student")):
            tiny(tmp_path / name, seed=seed, hidden_dropout_prob=rate, attention_probs_dropout_prob=rate)
        rows = [{"text": "abc " * (1 + 7 * n % 11), "label": "xy"[n % 2] if n % 5 else None} for n in range(29)]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return launch(*sets, text=SPEC, **options)

    return launched


def of_matches(loss):
    return f"{GENERAL}.matches=[{{feature: hidden, loss: {loss}, layers: {{1: 1}}}}]"


def effects(ran):
    return [note for note in ran.notes if "lanes" in note or "in parallel" in note]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by", "changes"),
    [
        ("random", ()),
        ("sorted_micro_batches", ()),
        ("length_grouped", ()),
        ("sorted_micro_batches", (f"{TRAINING}.accumulate=3",)),
        ("random", (f"{TRAINING}.lanes=3",)),
    ],
)
def test_the_numbers_are_those_of_one_after_another(by, changes, texts, monkeypatch):
    """Embeddings with a gradient in place among them."""
    monkeypatch.setattr(embedding_gradients, "LEAST", 1)
    by = f"{TRAINING}.batching={by}"
    one, more = (texts(by, *sets, dropout=False, folder=str(len(sets))) for sets in ((*changes, ONE), changes))
    for first, second in zip(one.of(StepDone), more.of(StepDone), strict=True):
        assert second.rows == first.rows
        assert len(second.micro_losses) >= max(len(first.micro_losses), 2)
        assert second.terms == pytest.approx(first.terms, rel=1e-5, abs=1e-7)
        assert second.grad_norm == pytest.approx(first.grad_norm, rel=1e-5)
    lanes = 3 if "lanes=3" in "".join(changes) else 2
    assert effects(more) == [f"stage `distil`: {lanes} micro-batches in parallel"]


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 2), (4, 4)])
def test_the_bits_are_the_same_in_every_run(first, second, texts, same):
    """With equally many threads for each lane: with another number torch adds up a tensor in another order."""
    before, found = torch.get_num_threads(), []
    try:
        for number, threads in enumerate((first, second)):
            torch.set_num_threads(threads)
            found.append(texts(folder=str(number)).weights)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert same.bits(*found)


def test_lanes_compute_in_the_precision_of_the_stage(texts):
    wide, narrow = (texts(f"{TRAINING}.precision={name}", folder=name) for name in ("fp32", "bf16"))
    assert effects(narrow) == effects(wide)
    first, second = wide.of(StepDone)[0], narrow.of(StepDone)[0]
    assert second.loss == pytest.approx(first.loss, rel=0.02)
    assert second.loss != pytest.approx(first.loss, rel=1e-6)


def test_there_are_no_more_lanes_than_a_step_has_rows_for(texts):
    assert effects(texts(f"{TRAINING}.lanes=64")) == ["stage `distil`: 6 micro-batches in parallel"]


def test_dropout_is_sampled(texts, same):
    assert not same.close(texts(folder="one").weights, texts(dropout=False, folder="two").weights, 1e-4)


def test_a_run_that_was_stopped_ends_with_the_same_bits(texts, toys, same):
    whole = texts(folder="whole")
    with pytest.raises(Interrupted):
        texts(folder="stopped", plugins=[toys.StopAt(2, "distil")])
    assert same.bits(texts(folder="stopped").weights, whole.weights)


def test_each_task_of_several_has_its_student_in_each_lane(launch, tmp_path):
    tiny(tmp_path / "teacher", seed=0)
    tiny(tmp_path / "student", seed=1)
    for name in ("first", "second"):
        rows = [{"text": "abc " * (1 + 5 * n % 9), "label": name[n % 2]} for n in range(14)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = launch(
        text="""\
kdspec: 1
name: two
tasks:
  first: {sequence_classification: {data: {json: {train: first.jsonl}}, text: text, label: label}}
  second: {sequence_classification: {data: {json: {train: second.jsonl}}, text: text, label: label}}
models: {student: {transformers: {path: student, tokenizer: teacher}}}
stages:
  distil:
    distiller:
      multi_task:
        student: student
        tasks: {first: {hard_labels: {weight: 1}}, second: {hard_labels: {weight: 1}}}
        sampling: {tau: 0}
    training: {steps: 3, batch_size: 4, accumulate: 3, evaluate: null, log_every: 1, lanes: 2}
"""
    )
    assert effects(ran) == ["stage `distil`: 2 micro-batches in parallel"]
    assert {term for step in ran.of(StepDone) for term in step.terms} == {"first.hard_labels", "second.hard_labels"}


@pytest.mark.parametrize(
    ("changes", "plugins", "why"),
    [
        ((f"{TRAINING}.gradient_checkpointing=true",), (), "not with `gradient_checkpointing: true`"),
        (
            (f"{TRAINING}.normalize=micro_batch",),
            (),
            "a step has one micro-batch, which cannot be split; set `accumulate`",
        ),
        (
            (of_matches("drawing"),),
            (Drawing,),
            "the student or a loss uses a random generator that threads would share",
        ),
        ((of_matches("counting"),), (Counting,), "the student or a loss keeps state between batches"),
        (
            ("stages.distil.distiller={own: {student: student}}",),
            (Own,),
            "the objective of the strategy may keep state between micro-batches",
        ),
    ],
)
def test_without_lanes_the_run_reports_the_reason(changes, plugins, why, texts):
    # A loss of a plugin may compare rows, so that batches are not split.
    more = (f"{TRAINING}.accumulate=2",) if "normalize" not in changes[0] else ()
    ran = texts(*changes, *more, plugins=plugins)
    assert effects(ran) == [f"`lanes: 2` of stage `distil` has no effect: {why}"]
    assert len(ran.of(StepDone)) == 4


def test_an_objective_of_its_own_has_lanes_where_it_declares_that_it_keeps_nothing(texts):
    ran = texts(
        "stages.distil.distiller={own: {student: student, declared: true}}", f"{TRAINING}.accumulate=2", plugins=(Own,)
    )
    assert effects(ran) == ["stage `distil`: 2 micro-batches in parallel"]


def test_scaled_losses_have_no_lanes(texts, monkeypatch):
    monkeypatch.setattr(SingleProcess, "scales", True, raising=False)
    monkeypatch.setattr(SingleProcess, "__init__", _scaling(SingleProcess.__init__))
    assert effects(texts())[0].endswith("has no effect: not with `precision: fp16`")


def _scaling(original):
    def made(self, *args, **options):
        original(self, *args, **options)
        self.scales = True

    return made


def test_a_buffer_is_put_back_after_the_trial(texts, same):
    changes = (of_matches("counting"), f"{TRAINING}.accumulate=2")
    one, more = (texts(*changes, *sets, plugins=[Counting], folder=str(len(sets))) for sets in ((ONE,), ()))
    assert same.bits(one.weights, more.weights)


def test_errors_in_a_lane_are_reported_as_elsewhere(texts):
    with pytest.raises(FindingError) as caught:
        texts(of_matches("elsewhere"), f"{TRAINING}.accumulate=2", plugins=[Elsewhere])
    (found,) = caught.value.findings
    assert found.code == "KD506"
    assert "raised ValueError: not here" in found.message
    assert threading.active_count() < 10


def test_a_gradient_that_is_not_finite_names_its_term(texts):
    with pytest.raises(FindingError) as caught:
        texts(of_matches("rooted"), f"{TRAINING}.accumulate=2", plugins=[Rooted])
    (found,) = caught.value.findings
    assert found.message.startswith("the gradient of the term `hidden.rooted.1-1` is not finite in step 1")
