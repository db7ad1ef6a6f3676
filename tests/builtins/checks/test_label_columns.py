"""The columns of labels that splits lack."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdspec.testing import tiny
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


def test_rows_without_tags_are_fine_where_the_spec_asks_for_none(tmp_path):
    (tmp_path / "words.txt").write_text("New York\nis large\n\n")
    tiny(tmp_path / "teacher", layers=2, labels=["O", "B-LOC"])
    spec = SPEC.format(task="token_classification", train="words.txt", validation="words.txt", weight=0)
    plain = spec.replace("csv:", "conll:").replace("      text: sentence\n      label: label\n", "")
    lines = plain.replace("words.txt}", 'words.txt, separator: "\\t"}')
    (found,) = (each for each in check(lines, folder=tmp_path).diagnostics if "`train`" in each.message)
    assert found.message.startswith("the split `train` has no column `tags`: no line of `words.txt` has the separator")
    assert found.severity == "warning"
    without = lines.replace("      data:", "      tags: null\n      data:")
    assert not [each.message for each in check(without, folder=tmp_path).diagnostics if "separator" in each.message]
