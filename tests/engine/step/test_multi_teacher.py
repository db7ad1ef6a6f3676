"""Runs of `multi_teacher`: teachers with tokenizers of their own, matches, going on, and heads that do not agree."""

from __future__ import annotations

import json

import pytest
import torch

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.run.stage_run import Interrupted
from kdspec.events import StepDone
from kdspec.testing import check, tiny

TRAINING = "stages.distil.training"
MATCHES = """[
  {feature: hidden, loss: hidden_mse, layers: {3: 2}},
  {feature: hidden, loss: hidden_mse, layers: {2: 2}, teacher: second},
]""".replace("\n", " ")
SOFT = "{combine: probabilities, teacher_weights: confidence}"
SETTINGS = (
    f"{{teachers: [teacher, second], student: student, hard_labels: {{weight: 1}}, soft_labels: {SOFT}, "
    f"matches: {MATCHES}}}"
)
JOINED = (
    "models.second={toy: {width: 5}}",
    "adaptors.second={logits: output.logits, hidden: output.hidden}",
    f"stages.distil.distiller={{multi_teacher: {SETTINGS}}}",
)
TEXTS = """\
kdspec: 1
name: texts
tasks: {texts: {sequence_classification: {data: {json: {train: rows.jsonl}}, text: text, label: label}}}
models:
  words: {transformers: {path: words}}
  letters: {transformers: {path: letters}}
  student: {transformers: {like: words, config: {num_hidden_layers: 1}}}
stages:
  one: {distiller: {supervised: {model: words}}, training: {steps: 1, batch_size: 4}}
  two: {distiller: {supervised: {model: letters}}, training: {steps: 1, batch_size: 4}}
  distil:
    distiller: {multi_teacher: {teachers: [words, letters], student: student}}
    training: {steps: 2, batch_size: 6, log_every: 1}
"""


def heads(folder, labels, name):
    """A classifier with these labels."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tiny(folder / "base")
    model = AutoModelForSequenceClassification.from_pretrained(
        folder / "base", id2label=dict(enumerate(labels)), label2id={label: n for n, label in enumerate(labels)}
    )
    model.save_pretrained(folder / name)
    AutoTokenizer.from_pretrained(folder / "base").save_pretrained(folder / name)


def test_each_match_follows_its_own_teacher(launch):
    ran = launch(*JOINED)
    terms = ran.of(StepDone)[0].terms
    assert list(terms) == [
        "soft_labels",
        "teacher.hidden.hidden_mse.3-2",
        "second.hidden.hidden_mse.2-2",
        "hard_labels",
    ]
    assert {row.model: row.role for row in ran.result.table} == {
        "teacher": "teacher",
        "second": "teacher",
        "student": "student",
    }


def test_a_stopped_run_resumes_to_the_same_weights(launch, session, toys, same):
    whole = launch(*JOINED, folder="whole")
    with pytest.raises(Interrupted):
        session(*JOINED, plugins=[toys.StopAt(3)]).run()
    assert same.bits(whole.weights, launch(*JOINED).weights)


def test_teachers_with_different_tokenizers_get_batches_of_their_own(launch, tmp_path, monkeypatch):
    for name in ("words", "letters"):
        tiny(tmp_path / name, seed=len(name))
    file = tmp_path / "letters" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "o"}, "content": "oo"}
    file.write_text(json.dumps(tokenizer))
    rows = [{"text": text, "label": len(text) % 2} for text in ("good", "so so", "dull", "nice", "bad", "too long")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen, original = [], ModelRunner.__call__

    def spying(self, batch):
        if "logits" in self.features:
            seen.append((self.name, batch.inputs[""]["input_ids"]))
        return original(self, batch)

    monkeypatch.setattr(ModelRunner, "__call__", spying)
    ran = launch(text=TEXTS)
    assert len([step for step in ran.of(StepDone) if step.stage == "distil"]) == 2
    by_model = dict(seen)  # the last of each
    assert torch.equal(by_model["words"], by_model["student"])
    assert by_model["letters"].shape[0] == by_model["words"].shape[0]
    assert by_model["letters"].shape[1] > by_model["words"].shape[1]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (("bad", "good", "so-so"), "have different numbers of classes"),
        (("good", "bad"), "have the same classes in another order"),
    ],
)
def test_heads_of_other_classes_are_reported_before_anything_is_loaded(labels, told, tmp_path):
    heads(tmp_path, ("bad", "good"), "words")
    heads(tmp_path, labels, "letters")
    (tmp_path / "rows.jsonl").write_text('{"text": "x", "label": "bad"}\n{"text": "y", "label": "good"}\n')
    start, end = TEXTS.index("  one: "), TEXTS.index("  distil:")
    (error,) = check(TEXTS[:start] + TEXTS[end:], folder=tmp_path).errors
    assert error.code == "KD403"
    assert told in error.message
    assert [label.text for label in (error.primary, *error.secondary)] == (
        ["3 classes", "2 classes"] if len(labels) == 3 else ["`good`, `bad`", "`bad`, `good`"]
    )
    assert check(TEXTS, folder=tmp_path).errors == ()  # trained, both have the head of the task


def test_teachers_with_other_classes_are_reported_at_the_first_batch(launch):
    """Where no configuration tells: each teacher is compared with the student."""
    narrow = "adaptors.second={logits: 'output.logits[:, :3]', hidden: output.hidden}"
    with pytest.raises(FindingError) as caught:
        launch(*JOINED, narrow)
    assert [found.code for found in caught.value.findings] == ["KD403"]
    assert "`student` has 5 classes, `second` 3" in str(caught.value)
