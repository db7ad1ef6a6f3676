"""Tens of thousands of classes: memory and time grow with their number, not with its square."""

from __future__ import annotations

import os
import resource

import pytest
import torch
from cpu_seconds import cpu_seconds

from kdspec import Batch, Features
from kdspec.builtins.tasks.multi_label import LabelMetrics
from kdspec.builtins.tasks.sequence_classification import ClassMetrics
from kdspec.data.answers.tag_metrics import TagMetrics
from kdspec.data.confidence import METRICS, of_classes
from kdspec.data.label_names import repeated
from kdspec.data.labels import suspects
from kdspec.engine.preflight.answers import ConfusionEvaluator
from kdspec.engine.preflight.chance import other_order
from kdspec.testing import plan, registry, tiny

CLASSES = 50_000
ROWS = 500
MOST = 600e6
"""Bytes over those that the process has before."""

SPEC = """\
kdspec: 1
name: run
tasks:
  rows:
    sequence_classification:
      {data: {csv: {train: train.csv, validation: validation.csv}}, text: text, label: label, metric: f1}
models:
  student: {transformers: {path: ./tiny}}
stages:
  only:
    distiller: {supervised: {model: student}}
    training: {steps: 2, batch_size: 16, evaluate: {every_steps: 2}}
"""


def peak():
    scale = 1 if os.uname().sysname == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def in_a_fork(work):
    """The bytes by which the memory of a copy of this process grows at most."""
    ends, begins = os.pipe()
    child = os.fork()
    if not child:
        try:
            before = peak()
            work()
            os.write(begins, str(peak() - before).encode())
            os._exit(0)
        finally:
            os._exit(9)
    os.close(begins)
    with os.fdopen(ends) as file:
        text = file.read()
    assert os.waitpid(child, 0)[1] == 0
    return int(text)


def merged(evaluator, targets, features=lambda logits, labels: {"logits": logits, "labels": labels}):
    """The metrics of rows whose logits say what their labels do, in batches of 25."""
    states = []
    for start in range(0, len(targets), 25):
        labels = targets[start : start + 25]
        logits = (
            torch.zeros(len(labels), CLASSES).scatter_(1, labels[:, None], 1.0) if labels.ndim == 1 else 9 * labels - 5
        )
        batch = Batch(inputs={}, targets={"labels": labels}, rows=range(start, start + len(labels)))
        states.append(evaluator.add(Features(features(logits, labels)), batch))
    return evaluator.merge(states)


@pytest.mark.slow
def test_the_metrics_of_classes_take_little_memory():
    torch.set_num_threads(1)
    truth = torch.arange(ROWS) * 97 % CLASSES

    def work():
        found = merged(ClassMetrics("f1", CLASSES), truth)
        assert found.keys() == {"accuracy", "f1", "mcc", *METRICS}
        assert (found["accuracy"], found["f1"], found["mcc"]) == (1, pytest.approx(1), 1)

    assert in_a_fork(work) < MOST


@pytest.mark.slow
def test_the_metrics_of_labels_take_little_memory():
    torch.set_num_threads(1)
    truth = torch.zeros(ROWS, CLASSES).scatter_(1, (torch.arange(ROWS) * 97 % CLASSES)[:, None], 1.0)

    def work():
        found = merged(LabelMetrics("micro_f1", 0.5), truth)
        assert (found["micro_f1"], found["subset_accuracy"]) == (1, 1)

    # The confidences of 25 million decisions are ranked.
    assert in_a_fork(work) < 1.3 * MOST


@pytest.mark.slow
def test_the_metrics_of_tags_take_little_memory():
    names, tags = [f"t{number}" for number in range(CLASSES)], [[number * 97 % CLASSES] for number in range(ROWS)]
    evaluator = TagMetrics("accuracy", names, tags, entities=False)

    def work():
        states = [
            {
                "sentences": torch.tensor([row]), "words": torch.tensor([[row, 0]]), "tags": torch.tensor(tags[row]),
                "truth": torch.tensor(tags[row]),
                **of_classes(torch.zeros(1, CLASSES).index_fill_(1, torch.tensor(tags[row]), 900.0), torch.tensor(tags[row])),
            }
            for row in range(ROWS)
        ]  # fmt: skip
        assert evaluator.merge(states) == {**dict.fromkeys(METRICS, 0), "accuracy": 1, "coverage_at_95": 1}

    assert in_a_fork(work) < MOST


@pytest.mark.slow
def test_a_run_with_tens_of_thousands_of_classes_is_evaluated(tmp_path):
    from kdspec.engine.run.session import Session

    tiny(tmp_path / "tiny", layers=1)
    for split, rows in (("train", CLASSES), ("validation", ROWS)):
        lines = "".join(f"word {row},c{row % CLASSES}\n" for row in range(rows))
        (tmp_path / f"{split}.csv").write_text(f"text,label\n{lines}", encoding="utf-8")
    known = registry()
    planned = plan(SPEC, known, folder=tmp_path)

    def work():
        (row,) = Session(planned, known, output=tmp_path / "runs", device="cpu").run().table
        assert row.metrics.keys() == {"accuracy", "f1", "mcc", "loss", *METRICS}
        assert row.rows == ROWS

    assert in_a_fork(work) < MOST


def test_names_are_compared_once():
    names = [f"c{number}" for number in range(CLASSES)]
    assert cpu_seconds(lambda: repeated(names)) < 1
    assert repeated(names) is None
    assert repeated([*names, "c7", "c3"]) == "c3"


class Told:
    """Keeps what it is told."""

    heads = ()

    def __init__(self):
        self.faults = []

    def tell(self, fault):
        self.faults.append(fault)


def test_rare_classes_are_searched_once():
    told = Told()
    train = {str(number): 1 for number in range(CLASSES)}
    assert cpu_seconds(lambda: suspects.report(train, told, column="label", at=("label",), scores=False)) < 5
    assert not told.faults


@pytest.mark.parametrize(
    ("numbers", "odd"),
    [([-1, *range(9)], "-1"), ([*range(9), 99], "99"), ([*range(10)], None), ([0, 2, 3, 4], None)],
)
def test_the_number_beside_all_others_is_told(numbers, odd):
    told = Told()
    train = {str(number): 1 for number in numbers}
    suspects.report(train, told, column="label", at=("label",), scores=False)
    shown = [fault.message for fault in told.faults]
    assert [f"`{odd}`" in message for message in shown] == ([True] if odd else [])


def test_preflight_counts_only_the_answers_that_occur():
    """A table of 1,000 classes has a million places."""
    classes, rows = 1_000, 300
    truth = torch.arange(rows)
    evaluator = ConfusionEvaluator(ClassMetrics("accuracy", classes))
    logits = torch.zeros(rows, classes).scatter_(1, (truth + 1)[:, None], 1.0)
    state = evaluator.add(
        Features({"logits": logits, "labels": truth}), Batch(inputs={}, targets={"labels": truth}, rows=range(rows))
    )
    assert evaluator.merge([state]) == {"accuracy": 0}
    assert evaluator.confusion == {(number, number + 1): 1 for number in range(rows)}
    assert evaluator.classes == classes
    found = other_order(evaluator.confusion, classes)
    assert found is not None
    assert found.right == rows
    assert sorted(found.places) == list(range(classes))
