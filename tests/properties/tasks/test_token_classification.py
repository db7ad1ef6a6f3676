"""Runs of the task that tags words."""

from __future__ import annotations

import json

import pytest
import torch

from kdspec.data.confidence import METRICS
from kdspec.events import StageStarted, StepDone
from kdspec.testing import tiny

SPEC = """\
kdspec: 1
name: words
tasks:
  entities:
    token_classification:
      data: {conll: {train: train.txt, validation: validation.txt, unlabelled: unlabelled.txt}}
      max_length: 9
models:
  teacher: {transformers: {path: teacher}}
  student: {transformers: {path: student}}
stages:
  fine_tune:
    distiller: {supervised: {model: teacher}}
    training: {steps: 2, batch_size: 4, log_every: 1, evaluate: null}
  distil:
    distiller: {general: {teacher: teacher, student: student, hard_labels: {weight: 0.5}}}
    training: {steps: 3, batch_size: 4, log_every: 1}
"""
SENTENCES = ["Ann B-PER|saw O|Rome B-LOC", "Bob B-PER|Lee I-PER|left O", "it O|rains O", "Oslo B-LOC|and O|Ann B-PER"]


@pytest.fixture
def words(launch, session, tmp_path):
    """Runs the spec with tiny models with different tokenizers: one of letters, one of whole words."""
    tiny(tmp_path / "teacher", layers=1, width=16)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    tiny(tmp_path / "student", layers=1, width=8, vocab_size=80, **still)
    whole_words(tmp_path / "student")
    texts = {"train": SENTENCES, "validation": SENTENCES[:3], "unlabelled": ["Lee|saw|Bob"]}
    for split, sentences in texts.items():
        (tmp_path / f"{split}.txt").write_text("\n\n".join(sentence.replace("|", "\n") for sentence in sentences))
    return lambda *sets, **options: launch(*sets, text=SPEC, **options)


def whole_words(folder):
    """A tokenizer that knows the words of the sentences, without marks of its own, in `folder`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = sorted({part.split()[0] for sentence in SENTENCES for part in sentence.split("|")})
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *known])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", model_max_length=32
    )
    fast.save_pretrained(folder)


def test_models_with_different_tokenizers_are_compared_word_by_word(words):
    ran = words()
    rows = {event.stage: event.rows for event in ran.of(StageStarted)}
    # The letters of some sentences do not fit into one row; both models have them cut alike.
    assert rows["distil"] > rows["fine_tune"] > len(SENTENCES) - 1
    terms = [event.terms for event in ran.of(StepDone) if event.stage == "distil"]
    assert all(set(of) == {"soft_labels", "hard_labels"} and of["soft_labels"] > 0 for of in terms)
    table = {row.model: row for row in ran.result.table}
    assert set(table["student"].metrics) == {"f1", "precision", "recall", "accuracy", "loss", *METRICS}
    assert 0 <= table["student"].agreement <= 1


def test_the_student_is_a_folder_for_transformers(words):
    from transformers import AutoModelForTokenClassification

    folder = words().folder / "student"
    model = AutoModelForTokenClassification.from_pretrained(folder)
    assert model.config.id2label == {0: "O", 1: "B-LOC", 2: "I-LOC", 3: "B-PER", 4: "I-PER"}
    assert "| f1 |" in (folder / "README.md").read_text()


def test_the_result_does_not_depend_on_how_a_batch_is_split(words, same):
    """Soft and hard labels count the words of the whole step, whatever micro-batch they are in."""
    training = "stages.distil.training"
    plain = f"{training}.optimizer={{sgd: {{lr: 0.1}}}}"
    whole = words(plain, f"{training}.batch_size=4", folder="whole")
    cut = words(plain, f"{training}.batch_size=2", f"{training}.accumulate=2", folder="cut")
    assert same.close(whole.weights, cut.weights, 1e-6)
    steps = zip(whole.of(StepDone)[2:], cut.of(StepDone)[2:], strict=True)
    assert all(one.loss == pytest.approx(other.loss, rel=1e-5) for one, other in steps)


def test_a_tag_in_the_validation_rows_that_train_does_not_have(words, tmp_path):
    from kdspec.diagnostics.finding import FindingError

    (tmp_path / "validation.txt").write_text("Ann B-ORG\n")
    with pytest.raises(FindingError) as caught:
        words()
    (found,) = caught.value.findings
    assert found.code == "KD312"
    assert "word 1 in row 1 of `validation` has the tag `B-ORG`" in found.message


def test_json_rows_of_characters(words, tmp_path):
    rows = [{"tokens": list("ab c"), "tags": ["B", "E", "S", "S"]}, {"tokens": list("de"), "tags": ["S", "S"]}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = words("tasks.entities.token_classification.data={json: {train: rows.jsonl, validation: rows.jsonl}}")
    assert torch.isfinite(torch.tensor(ran.of(StepDone)[-1].loss))
    assert "f1" in ran.result.table[0].metrics
