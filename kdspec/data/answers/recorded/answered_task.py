"""A task with the recorded answers of models without weights, which are read as the inputs of these models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kdspec.api.kinds.context import Input
from kdspec.api.kinds.recorded import Answer
from kdspec.api.working.batch import Batch
from kdspec.api.working.task import BuiltTask, Reader, Row, WrappedTask

IGNORE = -100
WORDS = "word_mask"
"""The target that selects the positions of words with an answer of the student; only where words have answers."""


class AnsweredTask(WrappedTask):
    """The same task; rows for the reader of a recorded teacher (`Reader.answers_of`) have its answers.

    `scores` are the inputs, `(rows, classes)` or `(rows, words, classes)`, and `answered` is a target, `(rows,)` or
    `(rows, words)`, 0 where there is no answer. Such a row has no label for this teacher: it is not evaluated on it.

    Args:
        task: the task. It encodes rows for such a reader with their labels alone and, for words, with one position for each.
        answers: the answers of each teacher to the rows of each split.
        by_word: whether each word has an answer.
    """

    def __init__(
        self, task: BuiltTask, answers: Mapping[str, Mapping[str, Sequence[Answer | None]]], *, by_word: bool
    ) -> None:
        super().__init__(task)
        self._answers, self._by_word = answers, by_word

    def encode(self, split: str, readers: Sequence[Reader]) -> Sequence[Sequence[Row]]:
        """The rows of the task, with the answers for readers of these."""
        encoded = super().encode(split, readers)
        return [
            rows if reader.answers_of is None else self._with_answers(rows, split, reader.answers_of)
            for rows, reader in zip(encoded, readers, strict=True)
        ]

    def collate(self, rows: Sequence[Row], reader: Reader) -> Batch:
        """The batch of the task, with the answers for a reader of these."""
        import torch

        made = super().collate(rows, reader)
        if reader.answers_of is None:
            return made
        if not self._by_word:
            scores = torch.tensor([row["scores"] for row in rows])
            answered = torch.tensor([int(row["answered"]) for row in rows])
            return replace(made, inputs={"": {"scores": scores}}, targets={**made.targets, "answered": answered})
        most, classes = max(len(row["there"]) for row in rows), len(self.head.labels)
        scores = torch.full((len(rows), most, classes), math.nan)
        answered = torch.zeros(len(rows), most, dtype=torch.long)
        for number, row in enumerate(rows):
            there = len(row["there"])
            scores[number, :there] = torch.tensor(row["scores"]).reshape(there, classes)
            answered[number, :there] = torch.tensor(row["there"])
        return replace(made, inputs={"": {"scores": scores}}, targets={**made.targets, "answered": answered})

    def answered_by(self, split: str, model: str) -> Sequence[bool] | None:
        """For each row of the split whether a recorded teacher has answered all of it."""
        if model not in self._answers:
            return super().answered_by(split, model)
        answers = self._answers[model].get(split)
        if answers is None:
            return [False] * self.rows(split)
        return [each is not None and (not self._by_word or all(word is not None for word in each)) for each in answers]

    def _with_answers(self, rows: Sequence[Row], split: str, model: str) -> list[dict[str, Any]]:
        answers = self._answers[model].get(split)
        classes = len(self.head.labels)
        none = [math.nan] * classes
        made = []
        for number, row in enumerate(rows):
            answer = None if answers is None else answers[row["sentence"] if self._by_word else number]
            if not self._by_word:
                labels = row["labels"] if answer is not None else _unlabelled(row["labels"])
                made.append({**row, "labels": labels, "scores": answer or none, "answered": answer is not None})
                continue
            each: Any = [None if answer is None or word is None else answer[word] for word in row["positions"]]
            there = [int(of is not None and mask) for of, mask in zip(each, row[WORDS], strict=True)]
            scores = [value for of in each for value in (of or none)]
            labels = [label if of is not None else IGNORE for label, of in zip(row["labels"], each, strict=True)]
            made.append({**row, "labels": labels, "scores": scores, "there": there})
        return made


def _unlabelled(label: Any) -> Any:
    return [math.nan] * len(label) if isinstance(label, list) else IGNORE


def example(inputs: Mapping[str, Input], classes: int, *, by_word: bool) -> dict[str, Input]:
    """The inputs of a made-up batch for a recorded teacher, from those for the student (`Task.example`).

    Args:
        inputs: those for the student.
        classes: number of logits.
        by_word: whether each word has an answer.
    """
    rows, length = inputs["input_ids"].shape
    where = (rows, length) if by_word else (rows,)
    words = {WORDS: replace(inputs[WORDS], target=True)} if by_word else {}
    labels = {name: given for name, given in inputs.items() if given.target}
    return {"scores": Input((*where, classes), "float32"), "answered": Input(where, target=True), **words, **labels}


def adaptor(paths: Mapping[str, str | list[str]]) -> dict[str, str | list[str]]:
    """The field paths of a recorded teacher, from those of its task's default adaptor."""
    kept = {name: path for name, path in paths.items() if name in ("labels", "logits_mask")}
    return {"logits": "output.logits", "answered": "batch.answered", **kept}
