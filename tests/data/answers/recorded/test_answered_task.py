"""A task with recorded answers: rows and batches for the reader of a recorded teacher."""

from __future__ import annotations

import math

import pytest
import torch

from kdspec.api.kinds.context import Input
from kdspec.api.working.batch import Batch
from kdspec.api.working.task import ANSWERS, BuiltTask, Head, Reader
from kdspec.data.answers.recorded.answered_task import AnsweredTask, adaptor, example

JUDGE = Reader(None, f"{ANSWERS}judge")


class Rows(BuiltTask):
    head = Head(labels=("a", "b"))

    def __init__(self, rows):
        self._rows = rows

    def rows(self, split):
        return len(self._rows)

    def encode(self, split, readers):
        return [self._rows for _ in readers]

    def collate(self, rows, reader):
        labels = [row["labels"] for row in rows]
        most = max((len(each) for each in labels if isinstance(each, list)), default=0)
        filled = [[*each, *[-100] * (most - len(each))] if isinstance(each, list) else each for each in labels]
        return Batch(inputs={"": {}}, targets={"labels": torch.tensor(filled)})


def test_a_row_without_an_answer_has_no_label_for_this_teacher():
    task = AnsweredTask(Rows([{"labels": 0}, {"labels": 1}]), {"judge": {"train": [[0.5, 1.5], None]}}, by_word=False)
    rows, others = task.encode("train", [JUDGE, Reader()])
    assert [row["labels"] for row in rows] == [0, -100]
    assert others == [{"labels": 0}, {"labels": 1}]
    batch = task.collate(rows, JUDGE)
    assert batch.inputs[""]["scores"].tolist()[0] == [0.5, 1.5]
    assert batch.inputs[""]["scores"][1].isnan().all()
    assert batch.targets["answered"].tolist() == [1, 0]
    assert "answered" not in task.collate(others, Reader()).targets
    assert task.answered_by("train", "judge") == [True, False]
    assert task.answered_by("train", "student") is None


def test_a_split_without_the_column_has_no_answers():
    task = AnsweredTask(Rows([{"labels": [1.0, 0.0]}]), {"judge": {}}, by_word=False)
    ((row,),) = task.encode("test", [JUDGE])
    assert row["answered"] is False
    assert all(map(math.isnan, row["labels"]))
    assert task.answered_by("test", "judge") == [False]


def test_words_of_a_split_sentence():
    words = [
        {"labels": [0, 1], "word_mask": [1, 0], "sentence": 0, "positions": [0, 1]},
        {"labels": [1], "word_mask": [1], "sentence": 0, "positions": [2]},
    ]
    answers = {"judge": {"train": [[[1.0, 2.0], [3.0, 4.0], None]]}}
    task = AnsweredTask(Rows(words), answers, by_word=True)
    (rows,) = task.encode("train", [JUDGE])
    assert [row["labels"] for row in rows] == [[0, 1], [-100]]
    batch = task.collate(rows, JUDGE)
    assert batch.inputs[""]["scores"].shape == (2, 2, 2)
    assert batch.inputs[""]["scores"][0].tolist() == [[1, 2], [3, 4]]
    assert batch.targets["answered"].tolist() == [[1, 0], [0, 0]]
    assert task.answered_by("train", "judge")[:1] == [False]


@pytest.mark.parametrize("by_word", [False, True])
def test_an_example_has_the_shapes_of_a_batch(by_word):
    given = {"input_ids": Input((4, 7)), "word_mask": Input((4, 7)), "labels": Input((4,), target=True)}
    found = example(given, 3, by_word=by_word)
    assert found["scores"].shape == ((4, 7, 3) if by_word else (4, 3))
    assert found["answered"].shape == ((4, 7) if by_word else (4,))
    assert found["labels"].target
    assert ("word_mask" in found) == by_word


def test_its_features_are_those_of_the_output_and_the_batch():
    paths = {
        "logits": "output.logits",
        "hidden": "output.hidden_states",
        "logits_mask": "batch.word_mask",
        "labels": "batch.labels",
    }
    assert adaptor(paths) == {
        "logits": "output.logits",
        "answered": "batch.answered",
        "logits_mask": "batch.word_mask",
        "labels": "batch.labels",
    }
