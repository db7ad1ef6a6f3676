"""The task `regression`: one or several numbers for a text or a pair of texts."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext, Input, TaskContext
from kdspec.api.kinds.kinds import Augmentation, Dataset, Task
from kdspec.api.kinds.losses import LogitKind
from kdspec.api.spec.bounds import LONGEST_ROW
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator, Metric, State
from kdspec.api.working.row_answers import RowAnswers
from kdspec.api.working.standalone import Standalone
from kdspec.api.working.task import Head, Reader
from kdspec.data import class_match, label_columns, texts
from kdspec.data.answers import error_analysis
from kdspec.data.answers.beside_teacher import BesideTeacher, check_metric, names_beside
from kdspec.data.answers.class_answers import NumberAnswers
from kdspec.data.answers.error_analysis import ComparedAnswers
from kdspec.data.answers.standalone_answers import of_texts
from kdspec.data.columns import ColumnPlace, missing, named
from kdspec.data.label_columns import LabelColumns, MissingMarks
from kdspec.data.label_names import SUSPECT
from kdspec.data.numbers import number
from kdspec.data.text_rows import VARIES, LabelledTexts, TextRows
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kdspec.api.working.step import Features
    from kdspec.ops.mean import Mean


class Regression(Task):
    """A number, or several, for each text or for each pair of texts, such as a score or a similarity.

    The hard loss is the squared error, averaged over numbers and rows; `mse` is the soft loss. Labels are used as they
    are: rescale a column of large values, since a new head predicts about 0.

    A row with a missing number, and every row of the split `unlabelled`, is unlabelled: it is left out of the metrics and
    the hard loss. A split without the column is unlabelled. Without `label` no row has a number: there are as many as a
    teacher's head has, or one, and metrics are measured beside the teacher.
    """

    name = "regression"
    scope = "position"
    head: ClassVar[str | None] = "regression"
    measured_beside: ClassVar[bool] = True
    length_limit: ClassVar[str | None] = "max_length"
    answered: ClassVar[Literal["row", "word"] | None] = "row"
    logits: ClassVar[LogitKind | None] = "numbers"

    data: Dataset
    """The rows."""
    text: texts.TextColumns
    """The column of the text, or two columns for pairs: `[sentence1, sentence2]`."""
    label: LabelColumns = Field(default=[], examples=["label"])
    """The column of the number, or several columns for as many numbers. Default: the rows have no numbers."""
    missing: MissingMarks = []
    """How a row without a number is written in its column, such as `N/A`, besides nothing and null."""
    without_text: texts.WithoutText = "error"
    """For a row whose text is empty or null, or one of its two texts: an error, or `leave_out`, which reports their number."""
    max_length: int | None = Field(default=None, ge=2, le=LONGEST_ROW)
    """Number of tokens to which a text, or the longer one of a pair, is truncated. Default: the tokenizer's limit."""
    augment: list[Augmentation] = []
    """Augmentations of the words of training rows, one after another, different in each epoch; only in stages with a
    teacher. An augmented row has no target."""
    metric: Literal["pearson", "spearman", "mse"] = "pearson"
    """The metric that selects the best student: a correlation (the mean over several columns), or the mean squared
    error (lower is better)."""

    @model_validator(mode="after")
    def _metric_of_labels(self) -> Self:
        label_columns.refuse_empty(self, self.label)
        check_metric(self, labelled=bool(self.label), other="mse")
        return self

    def has_labels(self) -> bool:
        """Whether `label` names a column."""
        return bool(self.label)

    def unwritten(self) -> Collection[str]:
        """`label` and `metric`, where no row has a label."""
        return () if self.has_labels() else ("label", "metric")

    def adaptor(self) -> Mapping[str, str | list[str]]:
        """The field paths for a transformers model."""
        return texts.ADAPTOR

    def example(self, context: BuildContext, rows: int, longest: int | None) -> Mapping[str, Input]:
        """Tokens, their mask and types, and numbers."""
        del context
        numbers = Input((rows, len(self.label) or 1), "float32", 0, target=True)
        return {**texts.example(rows, self.max_length, longest), "labels": numbers}

    def sample(self, context: BuildContext, rows: int) -> Sequence[Sequence[str]] | None:
        return texts.sample(self.data, context, self.text, rows)

    def to_predict(self, data: Dataset, labels: Sequence[str]) -> Self:
        """Without augmentations."""
        del labels  # the columns
        return self.model_copy(update={"data": data, "augment": []})

    def without_rows(self) -> NumberedRows:
        return NumberedRows(self, {}, TaskContext())

    def varies(self) -> str | None:
        """If texts are augmented."""
        return VARIES if self.augment else None

    def label_columns(self) -> Mapping[ColumnPlace, str]:
        """Those of `label`."""
        return {("label", number): name for number, name in enumerate(self.label)}

    def metric_names(self) -> Collection[str]:
        """Those of `metric`, with labels or beside a teacher."""
        return ("pearson", "spearman", "mse") if self.label else names_beside("numbers")

    def check(self, context: BuildContext) -> Iterator[Fault]:
        """Whether the rows have the columns of the texts."""
        splits = texts.columns_of(self.data, context)
        yield from missing(splits, {("text", n): name for n, name in enumerate(self.text)}, {}, named(self))

    def build(self, context: TaskContext) -> NumberedRows:
        """Read the rows and check their columns and numbers."""
        return NumberedRows(
            self,
            texts.splits_of(
                self.data,
                context,
                self.label,
                inputs={("text", n): name for n, name in enumerate(self.text)},
                without_text=self.without_text,
            ),
            context,
        )


class NumberedRows(LabelledTexts):
    """The built task; without rows if there are no splits."""

    def __init__(self, task: Regression, splits: Mapping[str, Any], context: TaskContext) -> None:
        names = tuple(task.label) or (_taught(context) if splits else ())
        self.head = Head(kind=task.head, labels=names)
        self._task = task
        none = [math.nan] * len(names)
        rows = TextRows(splits, task.text, max_length=task.max_length, augment=task.augment, unlabelled=none)
        if splits and context.reads_labels:
            label_columns.check(splits, task.label)
        found = {split: self._numbers(split, of) if task.label else [none] * len(of) for split, of in splits.items()}
        for place, column in enumerate(task.label):
            _without_marks(found, place, column, context)
        super().__init__(rows, found, "float32")
        known = splits and any(not math.isnan(value) for row in self._labels["train"] for value in row)
        if splits and context.reads_labels and not known:
            raise Fault("KD312", f"the column `{task.label[0]}` of `train` has no numbers", ("label", 0))

    def _numbers(self, split: str, rows: Any) -> list[list[float]]:
        task = self._task
        return label_columns.numbers(rows, split, task.label, number, otherwise="not a number", missing=task.missing)

    def hard_loss(self, features: Features, batch: Batch) -> Mapping[str, Mean]:
        """The mean squared error over the known numbers."""
        from kdspec.objectives.hard_labels import by_head
        from kdspec.ops.divergence import squared_error

        return by_head(features, batch, squared_error)

    def evaluator(self, split: str) -> Evaluator:
        """Correlations and the mean squared error over the known numbers."""
        del split
        return NumberMetrics(self._task.metric)

    def answers(self, split: str) -> RowAnswers:
        """The numbers."""
        del split
        return NumberAnswers(self.head.labels)

    def standalone(self, reader: Reader, module: nn.Module) -> Standalone:
        """The numbers."""
        del module
        return of_texts("numbers", reader.tokenizer, len(self._task.text), self._task.max_length)

    def beside_teacher(self, split: str) -> Evaluator:
        """Correlations with the teacher's numbers, and the mean squared difference."""
        del split
        return BesideTeacher("numbers")


def _taught(context: TaskContext) -> tuple[str, ...]:
    """Names of the numbers of a teacher's head; of one number without a head."""
    head = next(iter(context.heads), None)
    return ("number",) if head is None else head.labels or class_match.numbered(head.classes)


class NumberMetrics(Evaluator):
    """Correlations and the mean squared error over the known numbers.

    A correlation is NaN if all outputs, or all labels, are equal.

    Args:
        metric: the one that selects the best student.
    """

    others = (Metric("mse", higher_is_better=False),)

    def __init__(self, metric: str) -> None:
        self.primary = self.others[0] if metric == "mse" else Metric(metric)

    def add(self, features: Features, batch: Batch) -> State:
        """The outputs and the labels, with the number of each row."""
        import torch

        from kdspec.objectives.hard_labels import labels
        from kdspec.objectives.soft_labels import outputs

        return {
            "rows": torch.tensor(batch.rows),
            "predicted": outputs(features)[0].dense().float(),
            "truth": labels(features, batch)[0],
        }

    def merge(self, states: Sequence[State]) -> dict[str, float]:
        """Empty if no row has a number."""
        import torch

        from kdspec.ops.correlation import pearson, ranks

        predicted, truth = (torch.cat([state[name] for state in states]).double() for name in ("predicted", "truth"))
        known = ~truth.isnan()
        if not known.any():
            return {}
        pairs = [(predicted[kept, n], truth[kept, n]) for n, kept in enumerate(known.T) if kept.any()]
        return {
            "pearson": _mean(pearson(mine, theirs) for mine, theirs in pairs),
            "spearman": _mean(pearson(ranks(mine), ranks(theirs)) for mine, theirs in pairs),
            "mse": (predicted - truth)[known].square().mean().item(),
        }

    def error_analysis(
        self, states: Sequence[State], reference: Sequence[State], names: Sequence[str]
    ) -> Mapping[str, Any]:
        """The predicted beside the true numbers; all rows are compared with the teacher's."""
        import torch

        if any(state["predicted"].shape[1] != len(names) for state in (*states, *reference)):
            return {}
        predicted, truth = (torch.cat([state[name] for state in states]) for name in ("predicted", "truth"))
        points = error_analysis.scatter(predicted, truth, names)
        if not reference:
            return points
        return {**points, **error_analysis.differing(_numbers(states), _numbers(reference), (), names)}


def _numbers(states: Sequence[State]) -> ComparedAnswers:
    import torch

    rows, predicted, truth = (torch.cat([state[name] for state in states]) for name in ("rows", "predicted", "truth"))
    rows, parts = rows[:, None].expand_as(predicted), torch.arange(predicted.shape[1]).expand_as(predicted)
    return ComparedAnswers(*(values.flatten() for values in (rows, parts, predicted, truth)))


def _without_marks(rows: Mapping[str, list[list[float]]], place: int, column: str, context: TaskContext) -> None:
    """Take the numbers of a split as missing if they are all one that is out of the range of `train`, as -1 in public tests."""
    train = [row[place] for row in rows.get("train", ()) if not math.isnan(row[place])]
    for split, of in rows.items():
        values = {row[place] for row in of if not math.isnan(row[place])}
        if split == "train" or len(of) < 2 or len(values) != 1 or len(set(train)) < 2:
            continue
        (value,) = values
        outside = not min(train) <= value <= max(train)
        message = f"all numbers of `{split}` in `{column}` are {value:g}"
        if outside:
            message += f", out of the range of `train`, {min(train):g} to {max(train):g}: they count as missing"
            for row in of:
                row[place] = math.nan
        else:
            message += ": correlations with them are not defined"
        context.tell(Fault(SUSPECT, message, ("label",)))


def _mean(values: Iterator[Tensor]) -> float:
    found = [value.item() for value in values]
    return sum(found) / len(found)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The task."""
    return [Regression]
