"""A language model that teaches by its answers to a prompt."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_readers import TEXTS, language_model, written

from kdspec.api.kinds.model import ModelContext
from kdspec.api.working.task import Head
from kdspec.builtins.models.llm_reader import LlmReader
from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.diagnostics.fault import Fault
from kdspec.engine.run.event_log import read
from kdspec.events import CacheState, RunFinished, StepDone
from kdspec.testing import check, run

SPEC = """\
kdspec: 1
name: asked
seed: 2
tasks:
  topics:
    sequence_classification:
      data: {csv: {train: train.csv}}
      text: text
      label: label
      labels: [x, y, z]
models:
  reader: {llm_reader: {path: ./lm, prompt: "w1 {text} w2 {options} w3", options: {x: w5, y: w6 w7, z: w8}}}
  student: {bigru: {tokenizer: ./lm, embedding: 8, hidden: 8}}
stages:
  distil:
    distiller:
      general:
        teacher: reader
        student: student
        soft_labels: {loss: kl, temperature: 1}
        hard_labels: {weight: 0}
    training: {epochs: 3, batch_size: 4, evaluate: null, log_every: 1, optimizer: {adamw: {lr: 0.02}}}
"""
READER = "models.reader.llm_reader"
TRAINING = "stages.distil.training"
TASK = "tasks.topics.sequence_classification"
OPTIONS = {"x": "w5", "y": "w6 w7", "z": "w8"}
MANY = {f"c{number}": f"w{40 + number}" for number in range(6)}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "cache"))
    language_model(tmp_path / "lm")
    written(tmp_path, "train.csv", TEXTS)
    return tmp_path


def logits(folder, labels, options, *, prompt="w1 {text} w2 {options} w3", **given):
    """What the model answers to the texts, by class."""
    context = ModelContext(folder=folder, head=Head("sequence_classification", tuple(labels)), heads={"t": Head()})
    component = LlmReader(path="./lm", prompt=prompt, options=options, **given)
    module, encoder = component.build(context), component.tokenizer(context)
    with torch.no_grad():
        found = module(**encoder.collate(encoder.rows({"text": TEXTS}, None)))["logits"]
    return {label: found[:, number] for number, label in enumerate(labels)}


def events(result, kind):
    return [record.event for record in read(result.folder / "events.jsonl") if isinstance(record.event, kind)]


def test_a_student_learns_from_it_without_labels(home):
    result = run(SPEC, home / "runs", folder=home)
    losses = [step.loss for step in events(result, StepDone)]
    assert losses[-1] < losses[0]
    assert (result.student / "model.safetensors").is_file()


def test_its_options_name_the_classes_of_a_task_without_labels(home):
    text = SPEC.replace("      label: label\n      labels: [x, y, z]\n", "").replace(
        "        hard_labels: {weight: 0}\n", ""
    )
    result = run(text, home / "runs", folder=home)
    config = json.loads((result.student / "config.json").read_text())
    assert list(config["labels"]) == ["x", "y", "z"]


def test_its_answers_are_kept_by_content(home):
    kept = f"{TRAINING}.teacher_cache=on"
    first = run(SPEC, home / "runs", folder=home, sets=[kept])
    again = run(SPEC, home / "again", folder=home, sets=[kept])
    other = run(SPEC, home / "other", folder=home, sets=[kept, f"{READER}.prompt='w9 {{text}} w2 {{options}} w3'"])
    states = [events(result, CacheState)[-1] for result in (first, again, other)]
    assert [state.used for state in states] == [True] * 3
    assert states[0].folder == states[1].folder != states[2].folder
    assert (states[0].computed > 0, states[1].computed, states[2].computed > 0) == (True, 0, True)
    losses = [[step.loss for step in events(result, StepDone)] for result in (first, again, other)]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("options", [OPTIONS, MANY], ids=["all orders", "shifts"])
@pytest.mark.parametrize("prior", ["none", "contextual"])
def test_the_order_of_options_and_classes_does_not_matter(home, options, prior):
    names = list(options)
    shuffled = {name: options[name] for name in reversed(names)}
    one = logits(home, names, options, prior=prior)
    others = (logits(home, names, shuffled, prior=prior), logits(home, names[2:] + names[:2], options, prior=prior))
    for other in others:
        assert max(float((one[name] - other[name]).abs().max()) for name in names) < 1e-6


def test_not_permuted_the_order_of_the_spec_matters(home):
    shuffled = dict(reversed(OPTIONS.items()))
    one, other = (logits(home, OPTIONS, given, permute=False) for given in (OPTIONS, shuffled))
    assert max(float((one[name] - other[name]).abs().max()) for name in OPTIONS) > 1e-3


def test_a_prior_and_a_chat_template_change_the_answers(home):
    plain = logits(home, OPTIONS, OPTIONS)
    language_model(home / "lm", chat=True)
    assert not torch.equal(plain["x"], logits(home, OPTIONS, OPTIONS)["x"])
    assert torch.equal(plain["x"], logits(home, OPTIONS, OPTIONS, chat=False)["x"])
    assert not torch.equal(plain["x"], logits(home, OPTIONS, OPTIONS, chat=False, prior="contextual")["x"])


def test_a_chat_template_that_there_is_not_is_told(home):
    with pytest.raises(Fault, match="has no chat template"):
        logits(home, OPTIONS, OPTIONS, chat=True)


def test_two_texts_of_a_row(home):
    (home / "train.csv").write_text(
        "text,other\n" + "\n".join(f"{text},w9 w{n}" for n, text in enumerate(TEXTS)) + "\n"
    )
    sets = [f"{TASK}.text=[text, other]", f"{READER}.prompt='w1 {{other}} w2 {{text}} {{options}}'"]
    result = run(SPEC, home / "runs", folder=home, sets=sets)
    assert events(result, StepDone)[-1].loss >= 0


def test_augmented_texts_are_asked_about_too(home):
    sets = [f"{TASK}.augment=[deleting]", f"{TASK}.max_length=3"]
    result = run(SPEC, home / "runs", folder=home, sets=sets)
    assert not events(result, CacheState)[-1].used


def test_it_is_evaluated_as_any_teacher(home):
    answers = logits(home, OPTIONS, OPTIONS)
    best = torch.stack(list(answers.values())).argmax(0).tolist()
    labels = ["xyz"[number] for number in best]
    labels[0] = "x" if labels[0] != "x" else "y"
    written(home, "validation.csv", TEXTS, labels)
    sets = [f"{TASK}.data.csv.validation=validation.csv", f"{TRAINING}.evaluate={{every_epochs: 3}}"]
    result = run(SPEC, home / "runs", folder=home, sets=sets)
    (finished,) = events(result, RunFinished)
    assert finished.table["reader"]["metrics"]["accuracy"] == 7 / 8


def test_a_prompt_that_has_changed_is_another_run(home):
    (home / "ask.txt").write_text("w1 {text} w2 {options} w3")
    sets = [f"{READER}.prompt=ask.txt"]
    run(SPEC, home / "runs", folder=home, sets=sets)
    (home / "ask.txt").write_text("w4 {text} w2 {options} w3")
    with pytest.raises(DiagnosticError) as caught:
        run(SPEC, home / "runs", folder=home, sets=sets)
    assert {found.code for found in caught.value.diagnostics} == {"KD509"}


def test_a_folder_of_another_kind_of_model_is_told(home):
    from tiny_families import classifier

    classifier("llama", home / "lm")
    found = check(SPEC, folder=home).errors
    assert [(each.code, each.message) for each in found] == [
        ("KD503", "the files of `./lm` are of a `LlamaForSequenceClassification`, which has no head for the next token")
    ]


def test_classes_that_only_the_rows_name_are_compared_when_they_are_read(home):
    written(home, "train.csv", TEXTS, list("xyxyxyxq"))
    sets = [f"{TASK}.labels=null", "stages.distil.distiller.general.hard_labels.weight=1"]
    assert check(SPEC, folder=home, sets=sets).errors == ()
    with pytest.raises(DiagnosticError) as caught:
        run(SPEC, home / "runs", folder=home, sets=sets)
    assert "`z` is not a class of task `topics`" in str(caught.value)
