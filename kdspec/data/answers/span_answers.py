"""RowAnswers that are spans of a text: the best of all windows, their metrics, and the agreement of two models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator, Metric, State
from kdspec.api.working.row_answers import RowAnswers
from kdspec.api.working.task import Row
from kdspec.data.answers import answer_scores
from kdspec.data.answers.differing_texts import DifferingAnswers, GivenAnswer, farthest

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.working.step import Features

NOTHING = "(no answer)"
"""An empty answer in the report."""
_BEFORE = 100
"""Characters of a text before the first answer."""


@dataclass(frozen=True)
class Question:
    """A row of the data."""

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...] | None
    """Texts and their starts; None for an unlabelled row."""


class AnswerMetrics(Evaluator):
    """Exact match and F1 of the best answer to each question, averaged over the labelled questions.

    Args:
        questions: the questions of the split.
        metric: the one that selects the best student.
        language: the rules by which answers are compared.
        n_best: number of starts, and of ends, that are considered in a window.
        longest: number of tokens of the longest answer.
        threshold: the prediction is no answer if its score exceeds that of the best answer by more than this; None: every
            question has an answer.
    """

    agrees_on = "questions with the same answer"

    def __init__(
        self,
        questions: Sequence[Question],
        metric: str,
        *,
        language: answer_scores.Language,
        n_best: int,
        longest: int,
        threshold: float | None,
    ) -> None:
        self.primary, self.questions, self.language = Metric(metric), questions, language
        self.n_best, self.longest, self.threshold = n_best, longest, threshold

    def add(self, features: Features, batch: Batch) -> State:
        """For each window its question, the best answer's characters and score, and the score of no answer."""
        import torch

        from kdspec.objectives.soft_labels import outputs

        start, end = (logits.dense().float().cpu() for logits in outputs(features))
        tokens = batch.inputs[""]["attention_mask"].cpu() != 0
        places, scores = [], []
        for number, row in enumerate(batch.encoded):
            of_start, of_end = start[number][tokens[number]], end[number][tokens[number]]
            score, first, last = self._best(row, of_start, of_end)
            places.append((row["question"], row["offsets"][first][0], row["offsets"][last][1]))
            scores.append((score, float(of_start[row["nothing"]] + of_end[row["nothing"]])))
        return {"places": torch.tensor(places), "scores": torch.tensor(scores, dtype=torch.float64)}

    def merge(self, states: Sequence[State]) -> dict[str, float]:
        """Empty if no question has an answer."""
        scores = []
        for number, (predicted, _) in self.predicted(states).items():
            answers = self.questions[number].answers
            if answers is not None:
                scores.append(self._score(predicted, [text for text, _ in answers]))
        if not scores:
            return {}
        exact, f1 = (sum(values) / len(scores) for values in zip(*scores, strict=True))
        return {"f1": f1, "exact_match": exact}

    def agreement(self, states: Sequence[State], reference: Sequence[State]) -> float | None:
        """The share of questions for which both answers are an exact match; of those with a known answer if there are any."""
        mine, theirs = (
            {number: text for number, (text, _) in self.predicted(of).items()} for of in (states, reference)
        )
        questions = [number for number in mine if self.questions[number].answers is not None] or list(mine)
        if not questions or mine.keys() != theirs.keys():
            return None
        same = (self._score(mine[number], [theirs[number]])[0] for number in questions)
        return sum(same) / len(questions)

    def error_analysis(
        self, states: Sequence[State], reference: Sequence[State], names: Sequence[str]
    ) -> Mapping[str, Any]:
        """The questions whose answers by the model and by its teacher have the lowest F1, if there is a teacher.

        Of equal F1 those come first on which the teacher is closest to the labels and the model farthest from them.
        """
        del names  # start and end
        mine, teachers = self.predicted(states), self.predicted(reference)
        if not (compared := sorted(mine.keys() & teachers.keys())):
            return {}
        scores = [self._score(mine[number][0], [teachers[number][0]]) for number in compared]
        lost = [self._f1(number, teachers[number][0]) - self._f1(number, mine[number][0]) for number in compared]
        # Less than the step between two F1: it orders equal ones alone.
        apart = [0.0 if exact else 1 - f1 + 1e-3 * (2 + less) for (exact, f1), less in zip(scores, lost, strict=True)]
        order = (
            "Those come first whose two answers have the lowest F1; of equal ones those on which the teacher is right."
        )
        chosen = (
            DifferingAnswers(
                row=number, texts=[self.questions[number].question, self._around(number, mine, teachers)],
                mine=self._given(number, mine), teachers=self._given(number, teachers), about=f"F1 {f1:.2f}",
                labels=[text or NOTHING for text in self._labels(number) or ()],
            )
            for number, (_, f1) in ((compared[place], scores[place]) for place in farthest(apart))
        )  # fmt: skip
        return {
            "compared": len(compared), "differ": sum(not exact for exact, _ in scores),
            "differing": [each.data() for each in chosen], "counted": "questions", "number": "score", "order": order,
        }  # fmt: skip

    def _labels(self, number: int) -> list[str] | None:
        """The different right answers, an empty one for none; None if they are not known."""
        answers = self.questions[number].answers
        return None if answers is None else list(dict.fromkeys(text for text, _ in answers)) or [""]

    def _f1(self, number: int, predicted: str) -> float:
        labels = self._labels(number)
        return 0.0 if labels is None else self._score(predicted, labels)[1]

    def _given(self, number: int, of: Mapping[int, tuple[str, float]]) -> GivenAnswer:
        text, score = of[number]
        labels = self._labels(number)
        right = None if labels is None else self._score(text, labels)[0] == 1
        return GivenAnswer(text or NOTHING, score, right)

    def _around(self, number: int, *of: Mapping[int, tuple[str, float]]) -> str:
        """The text from shortly before the first answer: a long one is shown in part."""
        context = self.questions[number].context
        answers = [*(each[number][0] for each in of), *(self._labels(number) or ())]
        begin = min((place for text in answers if text and (place := context.find(text)) >= 0), default=0)
        if begin <= _BEFORE:
            return context
        start = context.find(" ", begin - _BEFORE, begin) + 1 or begin - _BEFORE
        return f"… {context[start:]}"

    def _score(self, predicted: str, answers: Sequence[str]) -> tuple[float, float]:
        return answer_scores.score(predicted, answers, self.language, unanswerable=self.threshold is not None)

    def predicted(self, states: Iterable[State]) -> dict[int, tuple[str, float]]:
        """The answer to each question with its score, the best of all windows of its text; empty for none."""
        best: dict[int, tuple[float, str]] = {}
        nothing: dict[int, float] = {}
        for state in states:
            windows = zip(state["places"].tolist(), state["scores"].tolist(), strict=True)
            for (number, begin, finish), (score, null) in windows:
                if score > best.get(number, (-float("inf"), ""))[0]:
                    best[number] = score, self.questions[number].context[begin:finish]
                nothing[number] = min(null, nothing.get(number, null))
        answers = {}
        for number, null in nothing.items():
            score, predicted = best.get(number, (-float("inf"), ""))
            if self.threshold is not None and null - score > self.threshold:
                score, predicted = null, ""
            answers[number] = predicted, score
        return answers

    def _best(self, row: Row, start: Tensor, end: Tensor) -> tuple[float, int, int]:
        """The score, the first and the last token of the best answer in a window."""
        import torch

        places = torch.tensor(row["text"], dtype=torch.long)
        most = min(self.n_best, len(places))
        if not most:
            return -float("inf"), 0, 0
        (starts, first), (ends, last) = start[places].topk(most), end[places].topk(most)
        scores = starts[:, None] + ends[None, :]
        length = last[None, :] - first[:, None]
        scores = scores.masked_fill((length < 0) | (length >= self.longest), -torch.inf)
        chosen = int(scores.argmax())
        return (
            float(scores.flatten()[chosen]),
            int(places[first[chosen // most]]),
            int(places[last[chosen % most]]),
        )


class SpanAnswers(RowAnswers):
    """The answer to each question, empty for none, and its score, the sum of the logits of its start and its end.

    Args:
        metrics: finds the best answer of the windows of a text.
    """

    columns = ("answer", "score")
    probable = False

    def __init__(self, metrics: AnswerMetrics) -> None:
        self.metrics = metrics

    def of(self, batches: Iterable[tuple[Features, Batch]], *, probabilities: bool) -> Iterator[Mapping[str, Any]]:
        """One question after another."""
        import torch

        from kdspec.data.answers.exact_numbers import exact

        del probabilities
        for _, windows in groupby(self._windows(batches), key=lambda state: int(state["places"][0, 0])):
            ((answer, score),) = self.metrics.predicted(windows).values()
            yield {"answer": answer, "score": exact(torch.tensor(score))}

    def _windows(self, batches: Iterable[tuple[Features, Batch]]) -> Iterator[State]:
        """What is kept of each window."""
        for features, batch in batches:
            state = self.metrics.add(features, batch)
            for place in range(len(batch.rows)):
                yield {name: tensor[place : place + 1] for name, tensor in state.items()}
