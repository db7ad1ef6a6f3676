"""The heads in the files of a task's models."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kdspec.api.kinds.context import TrainedHead
from kdspec.builtins.models.transformers import Transformers
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.forward.trained_heads import trained_heads, with_downloads

SPEC = """\
kdspec: 1
name: heads
tasks:
  texts:
    sequence_classification: {data: {json: {train: train.jsonl}}, text: text, label: label}
models:
  teacher: {transformers: {path: teacher}}
  student: {transformers: {path: student}}
stages:
  distil:
    distiller: {general: {teacher: teacher, student: student}}
    training: {steps: 1}
"""
NAMES = {"id2label": {0: "good", 1: "bad"}, "label2id": {"good": 0, "bad": 1}}
CLASSIFIER = "AutoModelForSequenceClassification"


@pytest.fixture
def plan(session, tmp_path, new_model):
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": "a", "label": "good"}) + "\n")

    def made(teacher=CLASSIFIER, student="AutoModel", **changes):
        new_model("teacher", "bert", teacher, **changes)
        new_model("student", "bert", student)
        return session(text=SPEC).plan

    return made


def test_heads_have_names_and_problem(plan):
    found = tuple(trained_heads(plan(**NAMES, problem_type="single_label_classification"), "texts"))
    assert found == (
        TrainedHead(model="teacher", classes=2, labels=("good", "bad"), problem="single_label_classification"),
    )


def test_heads_of_teachers_come_first_and_numbered_names_are_none(plan):
    found = [(head.model, head.labels) for head in trained_heads(plan(student=CLASSIFIER), "texts")]
    assert found == [("teacher", ()), ("student", ())]


@pytest.mark.parametrize("kind", ["AutoModelForTokenClassification", "AutoModelForMaskedLM"])
def test_a_head_of_another_kind_is_none_of_the_task(plan, kind):
    assert [head.model for head in trained_heads(plan(student=kind), "texts")] == ["teacher"]


@pytest.mark.parametrize(("label", "lent"), [("", ["teacher"]), (", label: label", [])])
def test_classes_that_a_spec_names_are_those_of_a_task_without_labels_alone(plan, session, tmp_path, label, lent):
    """The order in a spec says nothing of the numbers in rows with labels."""
    plan()
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": "a", "label": "good", "p": 0.25, "q": 0.75}) + "\n")
    teacher = "{recorded: {probabilities: {good: p, bad: q}}}"
    text = SPEC.replace("{transformers: {path: teacher}}", teacher).replace(", label: label", label)
    found = trained_heads(session(text=text).plan, "texts")
    assert [(head.model, head.labels) for head in found] == [(name, ("good", "bad")) for name in lent]


def test_a_configuration_that_is_not_here_is_downloaded_first(plan, monkeypatch):
    here = plan(**NAMES)
    unknown = replace(here.facts["teacher"], architecture=None, classes=None, labels=())
    away = replace(here, facts={**here.facts, "teacher": unknown})
    fetched = []
    monkeypatch.setattr(Transformers, "fetch", lambda _, context: fetched.append(context.name))
    assert with_downloads(away).facts == here.facts
    assert fetched == ["teacher"]


def test_a_readout_of_another_width_than_the_plan_has_is_an_error(plan, monkeypatch):
    """It was not on this machine when the plan was made."""
    here = plan(**NAMES)
    wide = {**here.facts, "teacher": replace(here.facts["teacher"], architecture=None, embedding=999)}
    monkeypatch.setattr(Transformers, "fetch", lambda _, context: None)
    with pytest.raises(FindingError, match="wide by the files that were downloaded now"):
        with_downloads(replace(here, facts=wide))
