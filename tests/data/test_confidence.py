"""Metrics of confidence: their directions, where they are shown, and that they choose the best student."""

from __future__ import annotations

import math

import pytest
import torch
from task_batches import all_metrics_of, states_of

from kdspec.builtins.tasks.multi_label import LabelMetrics
from kdspec.builtins.tasks.sequence_classification import ClassMetrics
from kdspec.data.answers.tag_metrics import TagMetrics
from kdspec.data.confidence import METRICS, LabelledAnswers, is_of_confidence, metric, reliability, shown
from kdspec.events import Evaluated, StageFinished
from kdspec.testing import tiny

SPEC = """\
kdspec: 1
name: sure
seed: 2
tasks:
  rows: {TASK}
models:
  student: {transformers: {path: ./tiny}}
stages:
  only:
    distiller: {supervised: {model: student}}
    training:
      {steps: 6, batch_size: 4, optimizer: {adamw: {lr: 0.02}}, evaluate: {every_steps: 1}}
"""
CLASSES = "{sequence_classification: {data: DATA, text: text, label: label, metric: METRIC}}"
LABELS = "{multi_label: {data: DATA, text: text, label: topics, separator: ' ', metric: METRIC}}"
DATA = "{csv: {train: train.csv, validation: validation.csv}}"


@pytest.fixture
def folder(tmp_path):
    """A tiny model, and rows of which one has no label."""
    tiny(tmp_path / "tiny", layers=1)
    rows = [
        (text, "ab"[n % 2], ["a", "b", "a b"][n % 3])
        for n, text in enumerate(["good", "bad", "nice", "dull", "so", "x", "y"])
    ]
    for split, found in (("train", rows), ("validation", [*rows[:5], ("what", "", "")])):
        lines = "".join(",".join(row) + "\n" for row in found)
        (tmp_path / f"{split}.csv").write_text(f"text,label,topics\n{lines}", encoding="utf-8")
    return tmp_path


def of(evaluator, name):
    return evaluator.metric(name).higher_is_better


@pytest.mark.parametrize(
    "evaluator",
    [ClassMetrics("accuracy", 2), LabelMetrics("micro_f1", 0.5), TagMetrics("accuracy", ("N",), [], entities=False)],
)
def test_less_is_better_of_all_but_coverage(evaluator):
    assert {name: of(evaluator, name) for name in METRICS} == {name: name == "coverage_at_95" for name in METRICS}
    assert of(evaluator, evaluator.primary.name)


def test_the_primary_metric_has_its_direction():
    assert not ClassMetrics("ece", 2).primary.higher_is_better
    assert ClassMetrics("coverage_at_95", 2).primary.higher_is_better
    assert metric("f1").higher_is_better


def test_they_are_shown_where_they_are_asked_for():
    names = ["accuracy", "ece", "topics.nll", "loss"]
    assert shown(names, asked=False) == ["accuracy", "loss"]
    assert shown(names, asked=True) == names
    assert is_of_confidence("a.b.brier")
    assert not is_of_confidence("brier.f1")


class Built:
    """A task with an evaluator and nothing else."""

    def __init__(self, evaluator):
        self._evaluator = evaluator

    def evaluator(self, split):
        return self._evaluator


def test_rows_without_a_label_do_not_count():
    task = Built(ClassMetrics("ece", 2))
    logits, labels = torch.tensor([[3.0, 0], [0, 1], [9, 9]]), torch.tensor([0, 1, -100])
    alone = all_metrics_of(task, [logits[:2]], [labels[:2]])
    assert all_metrics_of(task, [logits], [labels]) == alone
    assert all_metrics_of(task, [logits[2:]], [labels[2:]]) == {}
    assert all_metrics_of(task, [logits[:1], logits[1:]], [labels[:1], labels[1:]]) == alone


def test_decisions_count_one_by_one():
    task = Built(LabelMetrics("ece", 0.5))
    logits = torch.tensor([[0.0, 2.0], [-1.0, 4.0]])
    labels = torch.tensor([[math.nan, 1.0], [0.0, 0.0]])
    found = all_metrics_of(task, [logits[:1], logits[1:]], [labels[:1], labels[1:]])
    shares, truth = torch.tensor([2.0, -1.0, 4.0]).double().sigmoid(), torch.tensor([1.0, 0, 0]).double()
    assert found["brier"] == pytest.approx((shares - truth).square().mean().item())
    assert found["nll"] == pytest.approx(torch.nn.functional.binary_cross_entropy(shares, truth).item())
    sure, right = torch.stack([shares[0], 1 - shares[1], shares[2]]), torch.tensor([1.0, 1, 0])
    assert found["ece"] == pytest.approx((right - sure).abs().mean().item(), abs=1e-6)  # each in a bin of its own
    assert found["coverage_at_95"] == 0


def test_a_decision_below_the_threshold_has_the_confidence_that_it_has():
    """At a threshold of 0.3 a label of 0.4 is given, with a confidence of 0.4."""
    task = Built(LabelMetrics("ece", 0.3))
    found = all_metrics_of(task, [torch.tensor([[0.4]]).logit()], [torch.tensor([[1.0]])])
    assert found["ece"] == pytest.approx(0.6, abs=1e-6)


def test_a_summary_has_bins_a_curve_and_what_asking_gives():
    right = torch.tensor([True, False, True, True])
    mine = LabelledAnswers(
        torch.tensor([3, 1, 0, 2]), torch.tensor([3, 1, 0, 2]), torch.tensor([0.9, 0.55, 0.7, 0.99]), right
    )
    theirs = LabelledAnswers(torch.arange(4), torch.arange(4), torch.ones(4), torch.tensor([True, True, False, True]))
    found = reliability(mine, theirs)
    assert [each[0] for each in found["bins"] if each] == [1, 1, 1, 1]
    assert found["coverage"][-1] == [1.0, 0.75, 0.55]
    assert found["asked"][0] == [0.5, 0.0, 0.75, 0.75]
    assert found["asked"][1] == [0.6, 0.25, 1.0, 1.0]  # the teacher is right where the student is not sure
    assert found["asked"][-1] == [0.99, 0.75, 1.0, 1.0]
    assert reliability(mine)["asked"] == []
    others = theirs._replace(keys=theirs.keys + 1)
    assert reliability(mine, others)["asked"] == []
    assert reliability(mine._replace(keys=mine.keys[:0])) == {}
    assert reliability(mine._replace(confidence=mine.confidence * math.nan)) == {}


@pytest.mark.parametrize(
    ("evaluator", "logits", "labels"),
    [
        (ClassMetrics("accuracy", 2), torch.tensor([[2.0, 0], [0, 1], [5, 1]]), torch.tensor([0, 0, -100])),
        (
            LabelMetrics("micro_f1", 0.5),
            torch.tensor([[2.0, -1], [0.5, 9]]),
            torch.tensor([[1.0, 1], [math.nan, math.nan]]),
        ),
    ],
    ids=["classes", "labels"],
)
def test_a_summary_is_of_what_has_a_label(evaluator, logits, labels):
    states = states_of(evaluator, [logits], [labels])
    found = evaluator.reliability(states, states_of(evaluator, [logits[:1], logits[1:]], [labels[:1], labels[1:]]))
    assert sum(each[0] for each in found["bins"] if each) == 2
    assert found["coverage"][-1][:2] == [1.0, 0.5]
    assert found["asked"][0] == [0.5, 0.0, 0.5, 0.5]
    assert evaluator.reliability(states, ())["asked"] == []


@pytest.mark.parametrize("task", [CLASSES, LABELS], ids=["classes", "labels"])
@pytest.mark.parametrize("name", METRICS)
@pytest.mark.usefixtures("folder")
def test_each_of_them_chooses_the_best_student_and_stops_early(name, task, launch):
    text = SPEC.replace("{TASK}", task.replace("METRIC", name).replace("DATA", DATA))
    ran = launch("stages.only.training.early_stopping={patience: 1}", text=text)
    events = ran.of(Evaluated)
    assert {event.selected_by for event in events} == {name}
    sign = 1 if name == "coverage_at_95" else -1
    values = [sign * event.metrics[name] for event in events]
    (end,) = ran.of(StageFinished)
    assert sign * end.metrics[name] == max(values)
    no_better = [n for n, value in enumerate(values) if n and value <= max(values[:n])]
    assert len(values) == (no_better[0] + 1 if no_better else 6)
    (row,) = ran.result.table
    assert row.selected_by == name
    assert set(METRICS) <= row.metrics.keys()
    assert set(METRICS) & set(row.lower_is_better) == METRICS.keys() - {"coverage_at_95"}
