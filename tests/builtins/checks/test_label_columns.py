"""The columns of labels that splits lack."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdspec.testing.specs import check

TINY = Path(__file__).parent.parent.parent / "data" / "tiny"
SPEC = """\
kdspec: 1
name: texts
tasks:
  reviews:
    {task}:
      data: {{csv: {{train: {train}, validation: {validation}}}}}
      text: sentence
      label: label
models:
  teacher: {{transformers: {{path: ./teacher}}}}
  student: {{transformers: {{like: teacher, config: {{num_hidden_layers: 2}}}}}}
stages:
  distil:
    distiller: {{general: {{teacher: teacher, student: student, hard_labels: {{weight: {weight}}}}}}}
    training: {{epochs: 1}}
"""


def told(task="sequence_classification", train="reviews.csv", validation="reviews.csv", weight=0):
    found = check(SPEC.format(task=task, train=train, validation=validation, weight=weight), folder=TINY).diagnostics
    return [(each.severity, each.code, each.message) for each in found if "column" in each.message]


@pytest.mark.parametrize("task", ["sequence_classification", "multi_label", "regression"])
def test_train_needs_labels_where_a_loss_reads_them(task):
    assert told(task, train="texts.csv", weight=1) == [
        ("error", "KD312", "the split `train` has no column `label`"),
    ]
    assert told(task, train="texts.csv") == [
        ("warning", "KD316", "the split `train` has no column `label`; no loss reads its labels"),
    ]


def test_a_split_to_evaluate_on_should_have_labels():
    ((severity, code, message),) = told(validation="texts.csv", weight=1)
    assert (severity, code) == ("warning", "KD316")
    assert message.startswith("the split `validation` has no column `label`, so no row of it has a label")


def test_rows_with_labels_are_not_told_about():
    assert told(weight=1) == []
