"""The task `question_answering`: the answer to a question is a span of a text."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kdspec.api.component import Component, Strict
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext, Input, TaskContext
from kdspec.api.kinds.kinds import Dataset, Task
from kdspec.api.kinds.losses import LogitKind
from kdspec.api.spec.bounds import LARGEST_FACTOR, LONGEST_ROW
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator
from kdspec.api.working.row_answers import RowAnswers
from kdspec.api.working.standalone import Standalone
from kdspec.api.working.task import BuiltTask, Head, Reader, Row
from kdspec.data import texts
from kdspec.data.answers.answer_scores import Language
from kdspec.data.answers.beside_teacher import AGREEMENT, AnswersBesideTeacher, check_metric
from kdspec.data.answers.span_answers import AnswerMetrics, Question, SpanAnswers
from kdspec.data.answers.standalone_answers import of_spans
from kdspec.data.columns import ColumnPlace, missing, named
from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import nn

    from kdspec.api.working.step import Features
    from kdspec.ops.mean import Mean

_IGNORE = -100
_METRICS = ("f1", "exact_match")
_POSITIONS = MappingProxyType({"start": "start_positions", "end": "end_positions"})
"""The target of each head."""
_ROWS_AT_ONCE = 1_000
_USUAL_LENGTH = 384
_USUAL_STRIDE = 128


class Unanswerable(Strict):
    """Questions without an answer in the text, as in SQuAD 2.0; the answer is then the first token, `[CLS]`."""

    threshold: float = Field(default=0.0, ge=-LARGEST_FACTOR, le=LARGEST_FACTOR)
    """The prediction is no answer if its logits exceed those of the best answer by more than this."""


class QuestionAnswering(Task):
    """Extractive question answering: the answer is a span of a text, given by its start and end.

    A text that is too long becomes several rows, windows that overlap; metrics are still per question. The logits are
    over the tokens of the text, so teacher and student need the same tokenizer. A row without `answers`, and every row
    of the split `unlabelled`, is left out of the metrics and the hard loss.
    """

    name = "question_answering"
    head: ClassVar[str | None] = "question_answering"
    measured_beside: ClassVar[bool] = True
    length_limit: ClassVar[str | None] = "max_length"
    logits: ClassVar[LogitKind | None] = "classes"
    positions: ClassVar[bool] = True

    data: Dataset
    """The rows."""
    question: str = "question"
    """The column of the questions."""
    context: str = "context"
    """The column of the texts."""
    answers: str | None = "answers"
    """The column of the answers: `text` and `answer_start`, a list each; null: the answers are not known, and the student learns
    from a teacher alone."""
    id: str = "id"
    """The column with the name of a question in messages, if there is one."""
    without_text: texts.WithoutText = "error"
    """For a row whose text is empty or null, or that has no question: an error, or `leave_out`, which reports their number."""
    max_length: int | None = Field(default=None, ge=8, le=LONGEST_ROW)
    """Maximum number of tokens of a row, question and special tokens included. Default: the tokenizer's limit."""
    stride: int | None = Field(default=None, ge=0, le=LONGEST_ROW)
    """Tokens of the text that two neighbouring windows share. Default: 128, or a quarter of a row if that is less."""
    unanswerable: Unanswerable | None = None
    """Whether a question may have no answer: `{}`, or with a threshold. Default: each has one."""
    misplaced: Literal["refuse", "skip"] = "refuse"
    """For an answer that is not at its `answer_start`: an error, or a row without a hard loss. The metrics compare its
    text in both cases."""
    language: Language = "en"
    """How answers are compared: `en` by words, as SQuAD does, `zh` by characters, as CMRC 2018 does."""
    max_answer_length: int = Field(default=30, ge=1, le=LONGEST_ROW)
    """Maximum number of tokens of an answer in the metrics."""
    n_best: int = Field(default=20, ge=1, le=10_000)
    """Number of starts and of ends that are tried for the best answer."""
    metric: Literal["f1", "exact_match"] = "f1"
    """The metric that selects the best student."""

    @model_validator(mode="after")
    def _metric_of_labels(self) -> Self:
        check_metric(self, labelled=self.answers is not None, other=AGREEMENT)
        return self

    def has_labels(self) -> bool:
        """Whether `answers` names a column."""
        return self.answers is not None

    def unwritten(self) -> Collection[str]:
        """`metric`, where no row has a label."""
        return () if self.has_labels() else ("metric",)

    def adaptor(self) -> Mapping[str, str | list[str]]:
        """The field paths for a transformers model; `logits_mask` selects the text and the token of no answer."""
        return {
            **texts.ADAPTOR,
            "logits": ["output.start_logits", "output.end_logits"],
            "logits_mask": "batch.context_mask",
            "labels": ["batch.start_positions", "batch.end_positions"],
        }

    def example(self, context: BuildContext, rows: int, longest: int | None) -> Mapping[str, Input]:
        """Tokens, their mask and types, the mask of the text, and the positions of the answer."""
        del context
        inputs = texts.example(rows, self.max_length or _USUAL_LENGTH, longest)
        label = Input((rows,), value=0, target=True)
        mask = Input(inputs["input_ids"].shape)
        return {**inputs, "context_mask": mask, "start_positions": label, "end_positions": label}

    def to_predict(self, data: Dataset, labels: Sequence[str]) -> Self:
        """Without known answers."""
        del labels  # start and end
        return self.model_copy(update={"data": data})

    def without_rows(self) -> Extraction:
        """All but the rows."""
        return Extraction(self, {}, TaskContext())

    def metric_names(self) -> Collection[str]:
        """Those of `metric`, or that beside a teacher."""
        return _METRICS if self.answers is not None else (AGREEMENT,)

    def check(self, context: BuildContext) -> Iterator[Fault]:
        """Whether windows are longer than `stride`, and the rows have the columns."""
        if self.max_length is not None and self.stride is not None and self.stride >= self.max_length:
            yield _overlap(f"a window has {self.max_length} tokens, and `stride` repeats all of them")
        splits = texts.columns_of(self.data, context)
        inputs: dict[tuple[str | int, ...], str] = {("question",): self.question, ("context",): self.context}
        yield from missing(splits, inputs, {}, named(self))

    def label_columns(self) -> Mapping[tuple[str | int, ...], str]:
        """That of `answers`."""
        return {} if self.answers is None else {("answers",): self.answers}

    def build(self, context: TaskContext) -> Extraction:
        """Read the rows and check their answers."""
        inputs: dict[ColumnPlace, str] = {("question",): self.question, ("context",): self.context}
        reads = (self.answers, self.id)
        splits = texts.splits_of(
            self.data, context, reads, inputs=inputs, without_text=self.without_text, together=(self.context,)
        )
        return Extraction(self, splits, context)


class Extraction(BuiltTask):
    """The built task; without rows if there are no splits."""

    def __init__(self, task: QuestionAnswering, splits: Mapping[str, Any], context: TaskContext) -> None:
        self._task = task
        self.head = Head(kind=task.head, labels=("start", "end"))
        if splits and context.reads_labels and task.answers is not None:
            texts.check_column(splits["train"], "train", task.answers, ("answers",))
        self._questions = {split: self._read(rows, split) for split, rows in splits.items()}

    def rows(self, split: str) -> int:
        """Number of questions of the split."""
        return len(self._questions.get(split, ()))

    def labelled(self, split: str) -> int:
        """Number of questions whose answers are known."""
        return sum(question.answers is not None for question in self._questions.get(split, ()))

    def encode(self, split: str, readers: Sequence[Reader]) -> list[list[dict[str, Any]]]:
        """Windows of the texts after their questions: token ids, the mask of the text, and the positions of the answer."""
        if len(readers) > 1:
            message = (
                f"the models of this stage have {len(readers)} tokenizers, and token positions differ between these"
            )
            raise Fault("KD402", message, help="give student and teacher the same `tokenizer`")
        return [self._windows(split, reader.tokenizer) for reader in readers]

    def collate(self, rows: Sequence[Row], reader: Reader) -> Batch:
        """Pad to the longest row, with the tokenizer's padding side and values."""
        import torch

        tokenizer = reader.tokenizer
        assert tokenizer is not None, "encode has refused a model without a tokenizer"
        inputs = texts.collate(rows, tokenizer)
        inputs["context_mask"] = texts.padded([row["context_mask"] for row in rows], 0, tokenizer)
        length = inputs["input_ids"].shape[1]
        left = tokenizer.padding_side == "left"
        targets = {}
        for key in sorted(_POSITIONS.values()):
            places = []
            for row in rows:
                spare = length - len(row["input_ids"]) if left and row[key] != _IGNORE else 0
                places.append(row[key] + spare)
            targets[key] = torch.tensor(places)
        return Batch(inputs={"": inputs}, targets=targets)

    def texts(self, split: str) -> Sequence[tuple[str, ...]]:
        """Each question with its text."""
        return [(row.question, row.context) for row in self._questions[split]]

    def hard_loss(self, features: Features, batch: Batch) -> Mapping[str, Mean]:
        """The cross-entropy over the token positions, of the start and of the end."""
        from kdspec.objectives.hard_labels import by_head
        from kdspec.ops.divergence import cross_entropy

        return by_head(features, batch, cross_entropy, _POSITIONS)

    def answers(self, split: str) -> RowAnswers:
        """The answer to each question, and its score."""
        return SpanAnswers(self._metrics(split))

    def standalone(self, reader: Reader, module: nn.Module) -> Standalone:
        """The answer in a text."""
        del module
        task = self._task
        limit = texts.limit(texts.present(reader.tokenizer), task.max_length, pair=True)
        threshold = None if task.unanswerable is None else task.unanswerable.threshold
        return of_spans(reader.tokenizer, limit, self._stride(limit), task.max_answer_length, threshold)

    def beside_teacher(self, split: str) -> Evaluator:
        """The share of questions with the teacher's answer."""
        return AnswersBesideTeacher(self.evaluator(split))

    def evaluator(self, split: str) -> Evaluator:
        """Exact match and F1, the mean over the questions."""
        return self._metrics(split)

    def _metrics(self, split: str) -> AnswerMetrics:
        task = self._task
        return AnswerMetrics(
            self._questions.get(split, []), task.metric, language=task.language, n_best=task.n_best,
            longest=task.max_answer_length,
            threshold=None if task.unanswerable is None else task.unanswerable.threshold,
        )  # fmt: skip

    def _windows(self, split: str, tokenizer: Any | None) -> list[dict[str, Any]]:
        limit = texts.limit(texts.present(tokenizer), self._task.max_length, pair=True)
        assert tokenizer is not None, "a tokenizer is present"
        questions = self._questions[split]
        stride = self._stride(limit)
        if limit is not None:
            self._check_windows(split, tokenizer, limit, stride)
        examples: list[dict[str, Any]] = []
        for start in range(0, len(questions), _ROWS_AT_ONCE):
            part = questions[start : start + _ROWS_AT_ONCE]
            encoded = tokenizer(
                [row.question for row in part],
                [row.context for row in part],
                truncation="only_second" if limit is not None else False,
                max_length=limit,
                stride=stride,
                return_overflowing_tokens=limit is not None,
                return_offsets_mapping=True,
                return_attention_mask=False,
                verbose=False,
            )
            of = encoded.get("overflow_to_sample_mapping", range(len(part)))
            for window, number in enumerate(of):
                examples.append(self._window(encoded, window, start + number, part[number], tokenizer))
        return examples

    def _window(self, encoded: Any, window: int, number: int, row: Question, tokenizer: Any) -> dict[str, Any]:
        keys = [key for key in ("input_ids", "token_type_ids") if key in encoded]
        made = {key: encoded[key][window] for key in keys}
        offsets, sides = encoded["offset_mapping"][window], encoded.sequence_ids(window)
        inside = [place for place, side in enumerate(sides) if side == 1]
        ids = made["input_ids"]
        nothing = ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0
        mask = [int(side == 1) for side in sides]
        mask[nothing] = 1
        start, end = self._place(row, inside, offsets, nothing)
        made |= {"context_mask": mask, "start_positions": start, "end_positions": end}
        return {**made, "question": number, "text": inside, "offsets": offsets, "nothing": nothing}

    def _place(self, row: Question, inside: list[int], offsets: Any, nothing: int) -> tuple[int, int]:
        """The first and last token of the first answer; the token of no answer if the window does not contain all of it."""
        if row.answers is None:
            return _IGNORE, _IGNORE
        if not row.answers:
            return nothing, nothing
        text, begin = row.answers[0]
        if row.context[begin : begin + len(text)] != text:
            return _IGNORE, _IGNORE  # `misplaced: skip`
        finish = begin + len(text)
        if not inside or offsets[inside[0]][0] > begin or offsets[inside[-1]][1] < finish:
            return nothing, nothing
        covering = [place for place in inside if offsets[place][1] > begin and offsets[place][0] < finish]
        return (covering[0], covering[-1]) if covering else (nothing, nothing)

    def _stride(self, limit: int | None) -> int:
        if limit is None:
            return 0
        return min(_USUAL_STRIDE, limit // 4) if self._task.stride is None else self._task.stride

    def _check_windows(self, split: str, tokenizer: Any, limit: int, stride: int) -> None:
        """Raise a fault for a question that leaves a window no place for more text than `stride` repeats."""
        marks = tokenizer.num_special_tokens_to_add(pair=True)
        rows = self._questions[split]
        encoded = tokenizer([row.question for row in rows], add_special_tokens=False, verbose=False)["input_ids"]
        for number, (row, ids) in enumerate(zip(rows, encoded, strict=True), 1):
            room = limit - marks - len(ids)
            if room > stride:
                continue
            where = f"the question in row {number} of `{split}` (`{excerpt(row.id)}`) has {len(ids)} tokens"
            if room <= 0:
                message = f"{where}, and a window of {limit} has no place left for the text"
                raise Fault("KD502", message, ("max_length",), help="raise `max_length`, or shorten the question")
            raise _overlap(
                f"{where}, so a window of {limit} has {room} tokens of the text, and `stride` repeats {stride}"
            )

    def _read(self, rows: Any, split: str) -> list[Question]:
        task = self._task
        columns = {}
        for key in ("question", "context"):
            name = getattr(task, key)
            texts.check_column(rows, split, name, (key,))
            columns[key] = texts.read(rows, split, name, (key,))
        ids = rows[task.id][:] if task.id in rows.column_names else [""] * len(rows)
        column = task.answers if split != "unlabelled" else None
        answers = rows[column][:] if column is not None and column in rows.column_names else [None] * len(rows)
        found = []
        parts = zip(ids, columns["question"], columns["context"], answers, strict=True)
        for number, (name, question, context, given) in enumerate(parts, 1):
            where = f"row {number} of `{split}` (`{excerpt(str(name))}`)" if name else f"row {number} of `{split}`"
            found.append(Question(str(name), question, context, self._answers(given, context, where)))
        return found

    def _answers(self, given: Any, context: str, where: str) -> tuple[tuple[str, int], ...] | None:
        if given is None:
            return None
        spans, starts = (
            (given.get(key) for key in ("text", "answer_start")) if isinstance(given, dict) else (None, None)
        )
        if not isinstance(spans, list) or not isinstance(starts, list) or len(spans) != len(starts):
            message = f"{where} has answers that are not lists of `text` and `answer_start` of equal lengths"
            raise Fault("KD502", message, ("answers",), help="the data set `squad` reads SQuAD's own files")
        if not spans and self._task.unanswerable is None:
            help_ = "write `unanswerable: {}` if questions may have no answer"
            raise Fault("KD312", f"{where} has no answer", ("answers",), help=help_)
        for text, start in zip(spans, starts, strict=True):
            there = context[start : start + len(text)] if start >= 0 else ""
            if there != text and self._task.misplaced == "refuse":
                message = f"{where}: at {start} the text has `{excerpt(there)}`, not the answer `{excerpt(text)}`"
                help_ = "`misplaced: skip` leaves such rows out of the hard loss"
                raise Fault("KD312", message, ("answers",), help=help_)
        return tuple(zip(spans, starts, strict=True))


def _overlap(message: str) -> Fault:
    return Fault("KD104", message, ("stride",), help="lower `stride`, or raise `max_length`")


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The task."""
    return [QuestionAnswering]
