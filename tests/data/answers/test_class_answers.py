"""Columns of predictions for classes, labels and numbers."""

from __future__ import annotations

import pytest
import torch

from kdspec import Batch, Features
from kdspec.data.answers.class_answers import ClassAnswers, LabelAnswers, NumberAnswers


def of(answers, *batches, probabilities=False):
    made = ((Features({"logits": torch.tensor(logits)}), Batch(inputs={})) for logits in batches)
    return list(answers.of(made, probabilities=probabilities))


def test_the_class_with_the_largest_logit_and_its_probability():
    first, second = of(ClassAnswers(["no", "yes"]), [[1.0, 3.0]], [[2.0, -2.0]])
    assert first == {"answer": "yes", "confidence": pytest.approx(0.880797), "logits": {"no": 1.0, "yes": 3.0}}
    assert (second["answer"], second["logits"]) == ("no", {"no": 2.0, "yes": -2.0})


def test_probabilities_of_classes_add_up():
    answers = ClassAnswers(["no", "yes"])
    (row,) = of(answers, [[1.0, 3.0]], probabilities=True)
    assert tuple(row) == answers.written(probabilities=True) == ("answer", "confidence", "probabilities")
    assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-7)


def test_labels_above_the_threshold():
    rows = of(LabelAnswers(["a", "b", "c"], 0.0), [[1.0, -1.0, 0.5], [-1.0, -2.0, -3.0]])
    assert [row["answer"] for row in rows] == [["a", "c"], []]
    assert [row["confidence"] for row in rows] == pytest.approx([0.7310586, 0.2689414])
    assert rows[0]["logits"] == {"a": 1.0, "b": -1.0, "c": 0.5}
    (row,) = of(LabelAnswers(["a", "b"], 0.0), [[0.0, 2.0]], probabilities=True)
    assert row["probabilities"] == {"a": 0.5, "b": pytest.approx(0.880797)}


def test_one_number_alone_and_several_by_name():
    assert of(NumberAnswers(["score"]), [[2.5]]) == [{"answer": 2.5, "logits": 2.5}]
    both = {"width": 1.0, "height": 2.0}
    assert of(NumberAnswers(["width", "height"]), [[1.0, 2.0]]) == [{"answer": both, "logits": both}]
