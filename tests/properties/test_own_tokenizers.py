"""Teachers and students of different tokenizers, end to end: each task gives either batches of their own or a diagnostic."""

from __future__ import annotations

import json

import pytest

from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.events import StepDone
from kdspec.testing import tiny

ROWS = "data: {json: {train: rows.jsonl, validation: rows.jsonl}}"
TASKS = {
    "sequence_classification": (f"{{{ROWS}, text: text, label: kind}}", "kl"),
    "multi_label": (f"{{{ROWS}, text: text, label: topics}}", "bce"),
    "regression": (f"{{{ROWS}, text: text, label: score}}", "mse"),
    "token_classification": (f"{{{ROWS}}}", "kl"),
    "masked_lm": (f"{{{ROWS}, text: text}}", "kl"),
    "question_answering": ("{data: {squad: {train: asked.json, validation: asked.json}}}", "kl"),
}
SPEC = """
kdspec: 1
name: own
tasks:
  main: {TASK}
models:
  teacher: {transformers: {path: ./letters}}
  student: {transformers: {path: ./doubled}}
stages:
  fit: {distiller: {supervised: {model: teacher}}, training: {steps: 1, batch_size: 2}}
  distil:
    distiller: {general: {teacher: teacher, student: student, soft_labels: {loss: LOSS}, hard_labels: {weight: 1}}}
    training: {epochs: 2, batch_size: 3, log_every: 1}
"""
SEVERAL = """
kdspec: 1
name: several
tasks:
  texts: {sequence_classification: TEXTS}
  words: {token_classification: WORDS}
models:
  critic: {transformers: {path: ./letters}}
  tagger: {transformers: {path: ./letters}}
  student: {transformers: {path: ./doubled}}
stages:
  one: {distiller: {supervised: {model: critic, task: texts}}, training: {steps: 1, batch_size: 2}}
  other: {distiller: {supervised: {model: tagger, task: words}}, training: {steps: 1, batch_size: 2}}
  distil:
    distiller: {multi_task: {student: student, tasks: {texts: {teacher: critic}, words: {teacher: tagger}}}}
    training: {epochs: 2, batch_size: 3, log_every: 1}
"""


@pytest.fixture
def own(launch, session, tmp_path):
    """Runs a spec of two tiny models, of which the student's tokenizer reads every `o` as two letters."""
    for name in ("letters", "doubled"):
        tiny(tmp_path / name, seed=len(name))
    file = tmp_path / "doubled" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "o"}, "content": "oo"}
    file.write_text(json.dumps(tokenizer))
    texts = ["good", "so so", "dull", "nice", "bad too", "too long"]
    rows = [
        {"text": text, "kind": "ab"[n % 2], "topics": ["a", "b"][: n % 3], "score": n / 3, "tokens": text.split(),
         "tags": ["B-X", "O"][: len(text.split())]}
        for n, text in enumerate(texts)
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = {"id": "1", "question": "what", "answers": [{"text": "film", "answer_start": 2}]}
    data = [{"title": "", "paragraphs": [{"context": "a film", "qas": [asked]}]}]
    (tmp_path / "asked.json").write_text(json.dumps({"version": "1.1", "data": data}))
    return lambda text, *sets: launch(*sets, text=text)


def spec(task):
    written, loss = TASKS[task]
    return SPEC.replace("TASK", f"{task}: {written}").replace("LOSS", loss)


@pytest.fixture
def lengths(monkeypatch):
    """For each forward pass the model and how long its rows are."""
    seen, original = [], ModelRunner.__call__

    def spying(self, batch):
        seen.append((self.name, tuple(batch.inputs[""]["input_ids"].shape)))
        return original(self, batch)

    monkeypatch.setattr(ModelRunner, "__call__", spying)
    return seen


AUGMENT = "tasks.main.{}.augment=[{{masking: {{probability: 0.5}}}}]"


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("task", ["sequence_classification", "multi_label", "regression"])
def test_texts_have_a_batch_for_each_model(task, augmented, own, lengths):
    ran = own(spec(task), *([AUGMENT.format(task)] if augmented else []))
    terms = [event.terms for event in ran.of(StepDone) if event.stage == "distil"]
    assert len(terms) == 4
    assert all("soft_labels" in of for of in terms)
    longest = {name: max(shape[1] for model, shape in lengths if model == name) for name in ("teacher", "student")}
    assert longest["student"] > longest["teacher"]
    assert {row.role for row in ran.result.table} == {"teacher", "student"}


def test_words_are_compared_whatever_tokens_they_are_made_of(own):
    ran = own(spec("token_classification"))
    student = next(row for row in ran.result.table if row.role == "student")
    assert student.agreement is not None
    assert all("soft_labels" in event.terms for event in ran.of(StepDone) if event.stage == "distil")


@pytest.mark.parametrize(("task", "code"), [("masked_lm", "KD503"), ("question_answering", "KD402")])
def test_tokenizers_that_cannot_be_aligned_are_reported(task, code, own):
    with pytest.raises((DiagnosticError, FindingError)) as caught:  # by a rule, or by the model
        own(spec(task))
    (found,) = caught.value.args
    assert found.code == code
    assert "`tokenizer" in found.help


def test_each_task_of_several_has_batches_for_teacher_and_student(own, lengths):
    texts, words = TASKS["sequence_classification"][0], TASKS["token_classification"][0]
    ran = own(SEVERAL.replace("TEXTS", texts).replace("WORDS", words))
    assert {(row.task, row.agreement is not None) for row in ran.result.table if row.role == "student"} == {
        ("texts", True),
        ("words", True),
    }
    assert {model for model, _ in lengths} == {"critic", "tagger", "student"}
