"""Models that answer prompts only teach, and only tasks whose texts and classes they ask for."""

from __future__ import annotations

import pytest
from tiny_readers import TEXTS, language_model, written

from kdspec.testing import check

SPEC = """\
kdspec: 1
name: asked
tasks:
  topics:
    sequence_classification: {data: {csv: {train: train.csv}}, text: text, label: label, labels: [x, y]}
models:
  reader: {llm_reader: {path: ./lm, prompt: "w1 {text} w2 {options} w3"}}
  student: {bigru: {tokenizer: ./lm, embedding: 8, hidden: 8}}
stages:
  distil:
    distiller: {general: {teacher: reader, student: student, soft_labels: {loss: kl, temperature: 1}, hard_labels: {weight: 0}}}
    training: {epochs: 1, evaluate: null}
"""
READER = "models.reader.llm_reader"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    language_model(folder / "lm")
    written(folder, "train.csv", TEXTS, ["x", "y"] * 4)
    return folder


def found(home, *sets, spec=SPEC):
    return [(each.code, each.message) for each in check(spec, folder=home, sets=sets).diagnostics]


def test_a_question_that_fits_is_fine(home):
    assert found(home) == []
    assert found(home, f"{READER}.options={{X: w5, y: w6}}") == []


def test_it_cannot_be_trained(home):
    spec = (
        SPEC[: SPEC.index("    distiller")]
        + "    distiller: {supervised: {model: reader}}\n    training: {epochs: 1}\n"
    )
    messages = found(home, spec=spec)
    assert ("KD306", "stage `distil` trains `reader`, and a model of `llm_reader` only teaches") in messages


def test_options_are_those_of_the_classes(home):
    assert found(home, f"{READER}.options={{x: w5, other: w6}}") == [
        ("KD102", "`options` has none for `y` of task `topics`"),
        ("KD312", "`other` is not a class of task `topics`"),
    ]
    (slip,) = check(SPEC, folder=home, sets=[f"{READER}.options={{x: w5, yy: w6}}"]).diagnostics
    assert (slip.code, slip.help) == ("KD312", "did you mean `y`?")


def test_fields_are_columns_of_the_texts(home):
    messages = found(home, f"{READER}.prompt='{{txt}} {{label}} {{options}}'")
    assert messages == [
        ("KD312", "`{txt}` in `prompt` is no column of the texts of task `topics`"),
        ("KD312", "`{label}` in `prompt` is no column of the texts of task `topics`"),
    ]


def test_other_tasks_are_refused(home):
    spec = SPEC.replace("sequence_classification", "multi_label")
    assert ("KD314", "`reader` answers a prompt with one class, and task `topics` is a `multi_label`") in found(
        home, spec=spec
    )
