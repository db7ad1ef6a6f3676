"""What is told of teachers whose labels are no classes, in a run: numbers the wrong way round, questions, tags."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdspec.engine.preflight.facts import AnswerFacts, ReadFacts, SeenModel, SplitFacts, TaskFacts
from kdspec.engine.preflight.findings import of_models, of_rows
from kdspec.engine.run.event_log import read
from kdspec.engine.run.session import Session
from kdspec.events import Note
from kdspec.testing import plan, registry

SPEC = """\
kdspec: 1
name: told
tasks:
  t: {{{task}}}
models:
  teacher: {{transformers: {{path: ./teacher}}}}
  student: {{transformers: {{like: teacher}}}}
stages:
  distil:
    distiller: {{general: {{teacher: teacher, student: student}}}}
    training: {{steps: 1, batch_size: 4, evaluate: null}}
"""
CLASSES = "sequence_classification: {data: {csv: {train: train.csv}}, text: text, label: label}"
WORDS = ("good", "bad", "film", "plot", "the", "was", "very", "dull", "nice", "a", "b", "c")


@pytest.fixture
def planned(tmp_path, new_model, new_tokenizer):
    """The plan of a task of classes."""
    new_model("teacher")
    new_tokenizer("teacher")
    (tmp_path / "train.csv").write_text("text,label\ngood,x\nbad,y\n")
    return plan(SPEC.format(task=CLASSES), registry(), folder=tmp_path)


def facts(answers: AnswerFacts | None = None, *, loaded: bool = True, **splits: SplitFacts) -> TaskFacts:
    models = {"teacher": SeenModel(loaded=loaded, answers=answers)}
    return TaskFacts(task="t", classes=("x", "y"), splits=splits, models=models)


def answered(right: int, rows: int, most: int, metric: float = 0.5, **more: Any) -> AnswerFacts:
    return AnswerFacts(
        split="validation", rows=rows, metrics={"f1": metric}, primary="f1", classes=2, answers=rows, right=right,
        most_frequent=most, **more,
    )  # fmt: skip


def codes(found: Any) -> list[tuple[str, str]]:
    return [(finding.code, finding.severity) for finding in found]


@pytest.mark.parametrize(
    ("answers", "loaded", "told"),
    [
        (answered(100, 200, 100), True, [("KD518", "error")]),
        (answered(100, 200, 100), False, [("KD519", "warning")]),
        (answered(3, 6, 3), True, []),
        (answered(120, 200, 180), True, [("KD519", "warning")]),
        (answered(190, 200, 180), True, []),
        (answered(20, 200, 100, order=(1, 0), right_in_order=180), True, [("KD518", "error")]),
    ],
)
def test_a_teacher_is_judged_by_chance_and_by_the_most_frequent_class(planned, answers, loaded, told):
    assert codes(of_models(planned, planned.stages[0], facts(answers, loaded=loaded))) == told


@pytest.mark.parametrize(
    ("metric", "higher", "rows", "told"),
    [
        (-0.9, True, 40, True),
        (0.0, True, 40, True),
        (0.2, True, 40, False),
        (-0.9, False, 40, False),
        (0.0, True, 5, False),
    ],
)
def test_a_metric_of_zero_or_less_is_told(planned, metric, higher, rows, told):
    answers = AnswerFacts(
        split="validation", rows=rows, metrics={"pearson": metric}, primary="pearson", higher_is_better=higher
    )
    assert codes(of_models(planned, planned.stages[0], facts(answers))) == ([("KD519", "warning")] if told else [])


def test_rows_without_tokens_are_told(planned):
    train = SplitFacts(
        rows=9, encoded=9, labelled=9, reads=(ReadFacts(models=("teacher",), longest=3, mean=2, without_tokens=2),)
    )
    (found,) = of_rows(planned, facts(train=train))
    assert found.message == "2 of 9 rows of `train` have no token of their text for `teacher`"


def test_scores_in_the_opposite_direction_are_told_in_a_run(tmp_path, new_model, new_tokenizer, monkeypatch):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    monkeypatch.setenv("KDSPEC_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "teacher"
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_labels": 1,
        "pad_token_id": 3,
        "problem_type": "regression",
    }
    new_model("teacher", auto="AutoModelForSequenceClassification", **sizes)
    new_tokenizer("teacher", pad=False)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    model.eval()
    scores = torch.arange(len(WORDS), dtype=torch.float32)
    with torch.no_grad():
        inner = torch.cat([model.bert(**tokenizer(word, return_tensors="pt")).pooler_output for word in WORDS])
        model.classifier.weight.copy_(torch.linalg.lstsq(inner, -scores[:, None]).solution.T)
        model.classifier.bias.zero_()
    model.save_pretrained(folder)
    lines = [f"{word},{float(score)}" for word, score in zip(WORDS, scores, strict=True)]
    (tmp_path / "train.csv").write_text("\n".join(["text,score", *lines, ""]))
    task = "regression: {data: {csv: {train: train.csv}}, text: text, label: score, metric: pearson}"
    Session(plan(SPEC.format(task=task), registry(), folder=tmp_path), registry(), output=tmp_path / "runs").run()
    notes = [
        record.event.text
        for record in read(tmp_path / "runs" / "told" / "events.jsonl")
        if isinstance(record.event, Note)
    ]
    assert any(
        text.startswith("teacher `teacher` has a `pearson` of -1 on 12 labelled rows of `train`") for text in notes
    )
