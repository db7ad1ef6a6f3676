"""The task `multi_label`: any number of labels for a text or a pair of texts."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext, Input, TaskContext
from kdspec.api.kinds.kinds import Augmentation, Dataset, Task
from kdspec.api.kinds.losses import LogitKind
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator, Metric, State
from kdspec.api.working.task import Head
from kdspec.data import label_columns, label_names, texts
from kdspec.data.answers.same_answers import share_of_same
from kdspec.data.columns import ColumnPlace, missing
from kdspec.data.label_columns import LabelColumns
from kdspec.data.label_names import LabelNames
from kdspec.data.numbers import decision
from kdspec.data.text_rows import VARIES, LabelledTexts, TextRows
from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.working.step import Features
    from kdspec.ops.mean import Mean

_CODE = "KD502"


class MultiLabel(Task):
    """Any number of labels for each text or pair of texts, possibly none.

    Each label has its own logit; its sigmoid is the probability of the label. The hard loss is the binary
    cross-entropy, averaged over labels and rows. Soft losses: `bce`, or `mse`.

    An empty list, or with a `separator` an empty text, is a row without any label. A row with the value null, every row
    of the split `unlabelled`, and a split without the column are unlabelled: they are left out of the metrics and the
    hard loss.
    """

    name = "multi_label"
    scope = "position"
    head: ClassVar[str | None] = "multi_label"
    labelled: ClassVar[bool] = True
    length_limit: ClassVar[str | None] = "max_length"
    logits: ClassVar[LogitKind | None] = "labels"

    data: Dataset
    """The rows."""
    text: texts.TextColumns
    """The column of the text, or two columns for pairs: `[premise, hypothesis]`."""
    label: LabelColumns
    """A column of lists of labels, or of texts with a `separator`; or a list of columns, one named after each label,
    with 1 or true if the row has it, else 0 or false."""
    separator: str | None = Field(default=None, min_length=1)
    """The separator of labels in a text, such as `;`. Spaces around labels are ignored."""
    labels: LabelNames | None = None
    """Label names in the order of the logits; numbers as text. Default: those found in `train`, sorted, or the
    columns."""
    max_length: int | None = Field(default=None, ge=2)
    """Number of tokens to which a text, or the longer one of a pair, is truncated. Default: the tokenizer's limit."""
    augment: list[Augmentation] = []
    """Augmentations of the words of training rows, one after another, different in each epoch; only in stages with a
    teacher. An augmented row has no labels."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """The metrics take a label as predicted if its probability is above this."""
    metric: Literal["micro_f1", "macro_f1", "subset_accuracy"] = "micro_f1"
    """The metric that selects the best student. `micro_f1` is the F1 over all decisions, `macro_f1` is the mean of the F1
    of each label, and `subset_accuracy` is the share of rows with every label correct."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if len(self.label) > 1:
            for key in ("separator", "labels"):
                if getattr(self, key) is not None:
                    values = {"keys": [key, "label"], "key": key}
                    raise PydanticCustomError(
                        "exclusive_keys", "`{key}` and several columns exclude each other", values
                    )
        return self

    def adaptor(self) -> Mapping[str, str | list[str]]:
        """The field paths for a transformers model."""
        return texts.ADAPTOR

    def example(self, context: BuildContext, rows: int, longest: int | None) -> Mapping[str, Input]:
        """Tokens, their mask and types, and a number for each label."""
        del context
        count = len(self._names() or ("", ""))
        return {
            **texts.example(rows, self.max_length, longest),
            "labels": Input((rows, count), "float32", 0, target=True),
        }

    def without_rows(self) -> LabelledRows:
        """With the labels in the spec."""
        return LabelledRows(self, {})

    def varies(self) -> str | None:
        """If texts are augmented."""
        return VARIES if self.augment else None

    def metric_names(self) -> Collection[str]:
        """Those of `metric`."""
        return ("micro_f1", "macro_f1", "subset_accuracy")

    def check(self, context: BuildContext) -> Iterator[Fault]:
        """Whether the rows have the columns of the texts, and those of `train` those of the labels."""
        splits = texts.columns_of(self.data, context)
        columns: dict[ColumnPlace, str] = {("label", n): name for n, name in enumerate(self.label)}
        yield from missing(splits, {("text", n): name for n, name in enumerate(self.text)}, columns)

    def build(self, context: TaskContext) -> LabelledRows:
        """Read the rows and check their columns and labels."""
        return LabelledRows(self, texts.splits_of(self.data, context, (*self.text, *self.label)))

    def _names(self) -> Sequence[str] | None:
        """The labels, if they do not depend on the rows; else None."""
        return self.label if len(self.label) > 1 else self.labels


class LabelledRows(LabelledTexts):
    """The built task; without rows if there are no splits."""

    def __init__(self, task: MultiLabel, splits: Mapping[str, Any]) -> None:
        self._task, self._splits = task, splits
        label_columns.check(splits, task.label)
        several = len(task.label) > 1
        written = {} if several else {split: self._written(split) for split in splits}
        names = task._names()  # noqa: SLF001 - of the component that this is built from
        if names is None:
            names = self._found(written["train"]) if splits else []
        self.head = Head(kind=task.head, labels=tuple(names))
        none = [math.nan] * len(names)
        rows = TextRows(splits, task.text, max_length=task.max_length, augment=task.augment, unlabelled=none)
        found = {
            split: label_columns.numbers(splits[split], split, task.label, decision, otherwise="neither 0 nor 1")
            if several
            else self._numbered(split, written[split])
            for split in splits
        }
        super().__init__(rows, found, "float32")

    def hard_loss(self, features: Features, batch: Batch) -> Mapping[str, Mean]:
        """The binary cross-entropy over the known decisions."""
        from kdspec.objectives.hard_labels import by_head
        from kdspec.ops.divergence import binary_cross_entropy

        return by_head(features, batch, binary_cross_entropy)

    def evaluator(self, split: str) -> Evaluator:
        """F1 over the known decisions, and the share of rows with every label correct."""
        del split
        return LabelMetrics(self._task.metric, self._task.threshold)

    def _written(self, split: str) -> list[list[str] | None]:
        """The labels of each row as a spec would write them; None for an unlabelled row."""
        rows, column = self._splits[split], self._task.label[0]
        if not label_columns.has(rows, split, column):
            return [None] * len(rows)
        known = self._known(rows)
        found: list[list[str] | None] = []
        for row, value in enumerate(rows[column][:], 1):
            values = self._split_up(value)
            if value is not None and (values is None or any(isinstance(part, (list, dict, bytes)) for part in values)):
                kind = f"the string `{excerpt(value)}`" if isinstance(value, str) else f"a {type(value).__name__}"
                message = f"row {row} of `{split}` has {kind} in `{column}`, not a list of labels"
                help_ = "write the `separator` of the labels: `separator: ','`" if isinstance(value, str) else None
                raise Fault(_CODE, message, ("label", 0), help=help_ or "rows are counted from 1")
            names = [label_names.written(part if known is None else known[part]) for part in values or ()]
            found.append(None if values is None else [name for name in names if name is not None])
        return found

    def _split_up(self, value: Any) -> list[Any] | None:
        separator = self._task.separator
        if separator is None or value is None or isinstance(value, list):
            return value if isinstance(value, list) else None
        return [part.strip() for part in str(value).split(separator)]

    def _known(self, rows: Any) -> list[str] | None:
        """The data set's class names for the numbers in its lists."""
        return label_columns.declared_names({"": rows}, self._task.label[0])

    def _found(self, written: list[list[str] | None]) -> list[str]:
        known = self._known(self._splits["train"])
        found = known or label_names.found_in(name for names in written for name in names or ())
        label_names.at_least_two(found, self._task.label[0], ("label", 0))
        return found

    def _numbered(self, split: str, written: list[list[str] | None]) -> list[list[float]]:
        numbers = {name: number for number, name in enumerate(self.head.labels)}
        numbers |= {spelling: numbers[name] for spelling, name in label_names.alike(self.head.labels).items()}
        found = []
        for row, names in enumerate(written, 1):
            marks = [math.nan if names is None else 0.0] * len(self.head.labels)
            for name in names or ():
                if name not in numbers:
                    at: ColumnPlace = ("labels",) if self._task.labels is not None else ("label", 0)
                    raise label_names.unknown(name, self.head.labels, split, row, at)
                marks[numbers[name]] = 1.0
            found.append(marks)
        return found


def _f1(hits: Tensor, given: Tensor, due: Tensor) -> float:
    """The mean of 2·hits / (given + due); 0 for a label that is neither given nor due."""
    return (2 * hits / (given + due).clamp(min=1)).mean().item()


class LabelMetrics(Evaluator):
    """F1 over the known decisions, and the share of rows with every label correct.

    The F1 of a label that no row has and the model never predicts is 0.

    Args:
        metric: the one that selects the best student.
        threshold: the probability above which a label is predicted.
    """

    agrees_on = "decisions alike, one for each row and label"

    def __init__(self, metric: str, threshold: float) -> None:
        self.primary, self.limit = Metric(metric), math.log(threshold / (1 - threshold))

    def add(self, features: Features, batch: Batch) -> State:
        """For each row the predicted labels and the true ones."""
        import torch

        from kdspec.objectives.hard_labels import labels
        from kdspec.objectives.soft_labels import outputs

        truth = labels(features, batch)[0]
        return {
            "rows": torch.tensor(batch.rows),
            "given": outputs(features)[0].dense().float() > self.limit,
            "truth": truth,
            "known": ~truth.isnan(),
        }

    def merge(self, states: Sequence[State]) -> dict[str, float]:
        """Empty if no decision is known."""
        import torch

        given, truth = (torch.cat([state[name] for state in states]) for name in ("given", "truth"))
        known = ~truth.isnan()
        if not known.any():
            return {}
        predicted, true = given & known, (truth == 1) & known
        hits, positive, due = (found.sum(0).double() for found in (predicted & true, predicted, true))
        whole = known.all(1)
        found = {
            "micro_f1": _f1(hits.sum(), positive.sum(), due.sum()),
            "macro_f1": _f1(hits, positive, due),
        }
        if whole.any():
            found["subset_accuracy"] = (predicted == true)[whole].all(1).double().mean().item()
        return found

    def agreement(self, states: Sequence[State], reference: Sequence[State]) -> float | None:
        """The share of equal decisions at the threshold: of the known ones, or of all if none is known."""
        return share_of_same(states, reference, "given", "known")


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The task."""
    return [MultiLabel]
