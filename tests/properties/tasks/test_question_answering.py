"""Runs of the task that finds answers in texts."""

from __future__ import annotations

import json

import pytest
import torch

from kdspec.diagnostics.finding import FindingError
from kdspec.events import Evaluated, StageStarted, StepDone
from kdspec.testing import tiny

SPEC = """\
kdspec: 1
name: questions
tasks:
  questions:
    question_answering:
      data: {squad: {train: train.json, validation: validation.json}}
      max_length: 20
      stride: 4
models:
  teacher: {transformers: {path: teacher}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 1}, initialize: {layers: [0]}}}
stages:
  fine_tune:
    distiller: {supervised: {model: teacher}}
    training: {steps: 2, batch_size: 4, log_every: 1, evaluate: null}
  distil:
    distiller: {general: {teacher: teacher, student: student, hard_labels: {weight: 0.5}}}
    training: {steps: 3, batch_size: 4, log_every: 1, shuffle: false}
"""
TEXTS = ["it is in oslo now", "a b c oslo", "oslo", "where we saw oslo and more of it"]


@pytest.fixture
def questions(launch, session, tmp_path):
    """Runs the spec with a tiny model without dropout and a few questions."""
    tiny(tmp_path / "teacher", layers=2, width=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    for split, texts in (("train", TEXTS), ("validation", TEXTS[:3])):
        paragraphs = [
            {
                "context": text,
                "qas": [
                    {"id": text, "question": "q", "answers": [{"text": "oslo", "answer_start": text.index("oslo")}]}
                ],
            }
            for text in texts
        ]
        (tmp_path / f"{split}.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    return lambda *sets, **options: launch(*sets, text=SPEC, **options)


def test_a_student_learns_both_heads(questions):
    from transformers import AutoModelForQuestionAnswering

    ran = questions()
    rows = {event.stage: event.rows for event in ran.of(StageStarted)}
    assert rows["distil"] > len(TEXTS), "a text that is too long has several windows"
    terms = [set(event.terms) for event in ran.of(StepDone) if event.stage == "distil"]
    heads = {"soft_labels.0", "soft_labels.1", "hard_labels.start", "hard_labels.end"}
    assert terms == [heads] * 3
    for step in (event for event in ran.of(StepDone) if event.stage == "distil"):
        assert step.weights["hard_labels.start"] == step.weights["hard_labels.end"] == 0.25
    table = {row.model: row for row in ran.result.table}
    assert set(table["student"].metrics) == {"f1", "exact_match", "loss"}
    assert 0 <= table["student"].agreement <= 1
    model = AutoModelForQuestionAnswering.from_pretrained(ran.folder / "student")
    assert model.config.id2label == {0: "start", 1: "end"}


def test_the_trained_loss_is_the_evaluated_one_the_mean_of_both_ends(questions, tmp_path):
    """The mean of the cross-entropies of start and end, over the tokens of the text and `[CLS]`."""
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    (tmp_path / "validation.json").write_text((tmp_path / "train.json").read_text())
    one = "{steps: 1, batch_size: 64, optimizer: {sgd: {lr: 1.0e-30}}, log_every: 1, evaluate: {}}"
    alone = f"stages={{fine_tune: {{distiller: {{supervised: {{model: teacher}}}}, training: {one}}}}}"
    whole = "tasks.questions.question_answering.max_length=64"
    ran = questions(alone, whole, "models={teacher: {transformers: {path: teacher}}}")
    (step,) = ran.of(StepDone)
    (evaluated,) = ran.of(Evaluated)
    assert step.weights == {"hard_labels.start": 0.5, "hard_labels.end": 0.5}
    assert step.loss == pytest.approx(sum(step.terms.values()) / 2)
    assert step.loss == pytest.approx(evaluated.metrics["loss"], rel=1e-5)
    folder = ran.folder / "student"
    model, tokenizer = (
        AutoModelForQuestionAnswering.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    losses = []
    for text in TEXTS:
        inputs = tokenizer("q", text, return_tensors="pt", return_offsets_mapping=True)
        offsets = inputs.pop("offset_mapping")[0].tolist()
        sides = inputs.sequence_ids(0)
        begin = text.index("oslo")
        places = [n for n, (at, end) in enumerate(offsets) if sides[n] == 1 and at < begin + 4 and end > begin]
        with torch.no_grad():
            said = model(**inputs)
        kept = torch.tensor([n == 0 or side == 1 for n, side in enumerate(sides)])
        for logits, place in ((said.start_logits[0], places[0]), (said.end_logits[0], places[-1])):
            losses.append(-logits.masked_fill(~kept, -torch.inf).log_softmax(-1)[place].item())
    assert step.loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)


@pytest.mark.parametrize("loss", ["ce", "kl", "mse"])
def test_positions_that_are_ruled_out_leave_a_gradient_that_is_finite(questions, loss):
    ran = questions(f"stages.distil.distiller.general.soft_labels={{loss: {loss}}}")
    assert all(torch.isfinite(torch.tensor(list(event.terms.values()))).all() for event in ran.of(StepDone))


def test_a_wrong_answer_position_is_reported_with_its_row(questions, tmp_path):
    text = (tmp_path / "train.json").read_text().replace('"answer_start": 9', '"answer_start": 8')
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(FindingError) as caught:
        questions()
    (found,) = caught.value.findings
    assert found.code == "KD312"
    assert found.message.startswith("row 1 of `train` (`it is in oslo now`): at 8 the text has ` osl`")
