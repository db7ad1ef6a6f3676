"""The task `sequence_classification`: one label for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext, ExampleContext, Input, TaskContext
from kdspec.api.kinds.kinds import Augmentation, Dataset, Task
from kdspec.api.kinds.losses import LogitKind
from kdspec.api.spec.bounds import LONGEST_ROW
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator, State
from kdspec.api.working.row_answers import RowAnswers
from kdspec.api.working.standalone import Standalone
from kdspec.api.working.task import Head, Reader
from kdspec.data import confidence, label_columns, label_names, texts
from kdspec.data.answers import error_analysis
from kdspec.data.answers.beside_teacher import BesideTeacher, check_metric, names_beside
from kdspec.data.answers.class_answers import ClassAnswers
from kdspec.data.answers.error_analysis import ComparedAnswers
from kdspec.data.answers.same_answers import share_of_same
from kdspec.data.answers.standalone_answers import of_texts
from kdspec.data.classes import classes
from kdspec.data.columns import ColumnPlace, missing, named
from kdspec.data.confidence import ConfidenceMetric
from kdspec.data.label_columns import MissingMarks, declared, declared_names
from kdspec.data.label_names import LabelNames
from kdspec.data.labels.taught_classes import taught_classes
from kdspec.data.prompted.prompt_tokenizer import FORM, prompt_example
from kdspec.data.text_rows import VARIES, LabelledTexts, TextRows
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import nn

    from kdspec.api.working.step import Features
    from kdspec.ops.mean import Mean

_IGNORE = -100


class SequenceClassification(Task):
    """One label for each text, or for each pair of texts.

    A row with an empty label or a mark of `missing`, and every row of the split `unlabelled`, is unlabelled: it is left out
    of the metrics and the hard loss. A split without the label column is unlabelled; `train` may be so too if no loss reads
    labels. Beside the numbers 0 to n - 1, -1 is no label. Without `label` no row has one: the student learns from a teacher
    alone, and its metrics, `agreement`, `kl` and `ece`, are measured beside the teacher.
    """

    name = "sequence_classification"
    scope = "position"
    head: ClassVar[str | None] = "sequence_classification"
    labelled: ClassVar[bool] = True
    measured_beside: ClassVar[bool] = True
    length_limit: ClassVar[str | None] = "max_length"
    answered: ClassVar[Literal["row", "word"] | None] = "row"
    logits: ClassVar[LogitKind | None] = "classes"

    data: Dataset
    """The rows."""
    text: texts.TextColumns
    """The column of the text, or two columns for pairs: `[premise, hypothesis]`."""
    label: str | None = Field(default=None, examples=["label"])
    """The column of the label: a name or a number, as it is written. Default: the rows have no labels."""
    labels: LabelNames | None = None
    """Label names in the order of the logits; for rows with the numbers 0 to n - 1 their names. Default: those that the
    data set declares, or those found in `train`, sorted; numbers, and rows without labels, have the names of a loaded head."""
    missing: MissingMarks = []
    """How a row without a label is written, such as `-`, besides nothing and null: a text, or several."""
    without_text: texts.WithoutText = "error"
    """For a row whose text is empty or null, or one of its two texts: an error, or `leave_out`, which reports their number."""
    max_length: int | None = Field(default=None, ge=2, le=LONGEST_ROW)
    """Number of tokens to which a text, or the longer one of a pair, is truncated. Default: the tokenizer's limit."""
    augment: list[Augmentation] = []
    """Augmentations of the words of training rows, one after another, different in each epoch; only in stages with a
    teacher. An augmented row has no label."""
    metric: Literal["accuracy", "f1", "mcc", ConfidenceMetric] = "accuracy"
    """The metric that selects the best student. `f1` is that of the second of two labels, else the mean over the
    labels; `mcc` is Matthews' correlation coefficient, 0 if all answers are one class. The others are of the confidence in
    the answers: the calibration error in bins of equal width (`ece`) and of equally many rows (`ece_adaptive`), the score of
    Brier, the negative log-likelihood, and the share of rows that can be answered with 95 % right, those of highest
    confidence first."""

    @model_validator(mode="after")
    def _metric_of_labels(self) -> Self:
        check_metric(self, labelled=self.label is not None)
        return self

    def has_labels(self) -> bool:
        """Whether `label` names a column."""
        return self.label is not None

    def unwritten(self) -> Collection[str]:
        """`metric`, where no row has a label."""
        return () if self.has_labels() else ("metric",)

    def adaptor(self) -> Mapping[str, str | list[str]]:
        """The field paths for a transformers model."""
        return texts.ADAPTOR

    def example(self, context: ExampleContext, rows: int, longest: int | None) -> Mapping[str, Input]:
        """Tokens, their mask and types, and labels."""
        found = texts.example(rows, self.max_length, longest)
        if context.form == FORM:
            found = prompt_example(found)
        return {**found, "labels": Input((rows,), value=0, target=True)}

    def prompt_columns(self) -> Collection[str]:
        """Those of `text`."""
        return self.text

    def sample(self, context: BuildContext, rows: int) -> Sequence[Sequence[str]] | None:
        return texts.sample(self.data, context, self.text, rows)

    def to_predict(self, data: Dataset, labels: Sequence[str]) -> Self:
        """Without augmentations."""
        return self.model_copy(update={"data": data, "labels": list(labels), "missing": [], "augment": []})

    def without_rows(self) -> Classification:
        """With the labels in the spec."""
        return Classification(self, {}, TaskContext())

    def varies(self) -> str | None:
        """If texts are augmented."""
        return VARIES if self.augment else None

    def label_columns(self) -> Mapping[ColumnPlace, str]:
        """That of `label`."""
        return {} if self.label is None else {("label",): self.label}

    def metric_names(self) -> Collection[str]:
        """Those of `metric`, or those beside a teacher."""
        if self.label is None:
            return names_beside("classes")
        return ("accuracy", "f1", "mcc", *confidence.METRICS)

    def check(self, context: BuildContext) -> Iterator[Fault]:
        """Whether the rows have the columns of the texts."""
        splits = texts.columns_of(self.data, context)
        yield from missing(splits, {("text", n): name for n, name in enumerate(self.text)}, {}, named(self))

    def build(self, context: TaskContext) -> Classification:
        """Read the rows and check their columns and labels."""
        columns = () if self.label is None else (self.label,)
        return Classification(
            self,
            texts.splits_of(
                self.data,
                context,
                columns,
                inputs={("text", n): name for n, name in enumerate(self.text)},
                without_text=self.without_text,
                classes=columns,
            ),
            context,
        )


class Classification(LabelledTexts):
    """The built task; without rows if there are no splits."""

    def __init__(self, task: SequenceClassification, splits: Mapping[str, Any], context: TaskContext) -> None:
        self._task, self._splits = task, splits
        rows = TextRows(splits, task.text, max_length=task.max_length, augment=task.augment, unlabelled=_IGNORE)
        if task.label is None:
            names = taught_classes(context, task.labels) if splits else tuple(task.labels or ())
            self.head = Head(kind=task.head, labels=names)
            super().__init__(rows, {split: [_IGNORE] * len(of) for split, of in splits.items()}, "int64")
            return
        if splits and context.reads_labels:
            texts.check_column(splits["train"], "train", task.label, ("label",))
        written = {split: self._written(split, task.label) for split in splits}
        found = classes(
            written, context, column=task.label, at=("label",), labels=task.labels,
            declared=declared_names(splits, task.label),
        )  # fmt: skip
        self.head = Head(kind=task.head, labels=found.names)
        self._naming = found.naming
        super().__init__(rows, {split: self._numbered(split, values) for split, values in written.items()}, "int64")

    def hard_loss(self, features: Features, batch: Batch) -> Mapping[str, Mean]:
        """The cross-entropy over the labelled rows."""
        from kdspec.objectives.hard_labels import by_head
        from kdspec.ops.divergence import cross_entropy

        return by_head(features, batch, cross_entropy)

    def evaluator(self, split: str) -> Evaluator:
        """Accuracy, F1, Matthews' correlation and calibration over the labelled rows."""
        del split
        return ClassMetrics(self._task.metric, len(self.head.labels))

    def answers(self, split: str) -> RowAnswers:
        """The class of each row, and its logits."""
        del split
        return ClassAnswers(self.head.labels)

    def standalone(self, reader: Reader, module: nn.Module) -> Standalone:
        """The most probable class."""
        del module
        return of_texts("classes", reader.tokenizer, len(self._task.text), self._task.max_length)

    def beside_teacher(self, split: str) -> Evaluator:
        """The share of rows with the teacher's class, and the divergence from it."""
        del split
        return BesideTeacher("classes")

    def _written(self, split: str, column: str) -> list[str | None]:
        """The label of each row as a spec would write it; None for an unlabelled row."""
        rows = self._splits[split]
        if not label_columns.has(rows, split, column):
            return [None] * len(rows)
        values = rows[column][:]
        for row, value in enumerate(values, 1):
            if isinstance(value, (list, dict, bytes)):
                message = f"row {row} of `{split}` has a {type(value).__name__} in `{column}`, not one label"
                raise Fault("KD502", message, ("label",))
        names = declared_names({split: rows}, column)
        return [label_names.written(declared(value, names), self._task.missing) for value in values]

    def _numbered(self, split: str, written: list[str | None]) -> list[int]:
        numbers = {name: number for number, name in enumerate(self.head.labels)}
        found = []
        for row, label in enumerate(written, 1):
            name = self._naming.name(split, label)
            if name is not None and name not in numbers:
                at = "labels" if self._task.labels is not None else "label"
                raise label_names.unknown(name, self.head.labels, split, row, (at,))
            found.append(_IGNORE if name is None else numbers[name])
        return found


class ClassMetrics(Evaluator):
    """Accuracy, F1 and Matthews' correlation of the predicted classes, and how far their confidence can be trusted.

    Args:
        metric: the one that selects the best student.
        classes: number of classes.
    """

    others = tuple(confidence.METRICS.values())
    agrees_on = "rows with the same class"

    def __init__(self, metric: str, classes: int) -> None:
        self.primary, self.classes = confidence.metric(metric), classes

    def add(self, features: Features, batch: Batch) -> State:
        """The predicted class of each row with its confidence, and its label."""
        import torch

        from kdspec.objectives.hard_labels import labels
        from kdspec.objectives.soft_labels import outputs

        logits, truth = outputs(features)[0], labels(features, batch)[0]
        dense = logits.dense().float()
        return {
            "rows": torch.tensor(batch.rows),
            "predicted": dense.argmax(-1),
            "truth": truth,
            "known": truth != _IGNORE,
            "classes": torch.tensor(logits.classes),
            **confidence.of_classes(dense, truth),
        }

    def merge(self, states: Sequence[State]) -> dict[str, float]:
        """Empty if no row has a label."""
        import torch
        from torchmetrics.functional.classification import binary_f1_score

        from kdspec.ops.class_scores import macro_f1
        from kdspec.ops.correlation import matthews

        names = ("predicted", "truth", "known")
        predicted, truth, known = (torch.cat([state[name] for state in states]) for name in names)
        if not known.any():
            return {}
        predicted, truth = predicted[known], truth[known]
        sure, brier, nll = (confidence.joined(states, name, known) for name in ("confidence", "brier", "nll"))
        binary = self.classes <= 2
        return {
            "accuracy": (predicted == truth).double().mean().item(),
            "f1": binary_f1_score(predicted, truth).item() if binary else macro_f1(predicted, truth, self.classes),
            "mcc": matthews(predicted, truth),
            **confidence.metrics(sure, predicted == truth, brier.mean().item(), nll.mean().item()),
        }

    def agreement(self, states: Sequence[State], reference: Sequence[State]) -> float | None:
        """The share of labelled rows with the same class, or of all rows if none has a label."""
        return share_of_same(states, reference, "predicted", "known")

    def reliability(self, states: Sequence[State], reference: Sequence[State]) -> Mapping[str, Any]:
        """Of the labelled rows."""
        return confidence.reliability(_answers(states), _answers(reference) if reference else None)

    def error_analysis(
        self, states: Sequence[State], reference: Sequence[State], names: Sequence[str]
    ) -> Mapping[str, Any]:
        """Of the labelled rows by class; all rows are compared with the teacher."""
        mine, teachers = (_classes_of(side, len(names)) for side in (states, reference))
        return {} if mine is None else error_analysis.of_classes(mine, teachers, names)


def _classes_of(states: Sequence[State], classes: int) -> ComparedAnswers | None:
    """The classes that a model has predicted; None without any, and for a model with other classes."""
    import torch

    if not states or any(int(state["classes"]) != classes for state in states):
        return None
    rows, predicted, truth, sure = (
        torch.cat([state[name] for state in states]) for name in ("rows", "predicted", "truth", "confidence")
    )
    return ComparedAnswers(rows, torch.zeros_like(rows), predicted, truth, sure)


def _answers(states: Sequence[State]) -> confidence.LabelledAnswers:
    import torch

    known = torch.cat([state["known"] for state in states])
    rows, predicted, truth, sure = (
        confidence.joined(states, name, known) for name in ("rows", "predicted", "truth", "confidence")
    )
    return confidence.LabelledAnswers(rows, rows, sure, predicted == truth)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The task."""
    return [SequenceClassification]
