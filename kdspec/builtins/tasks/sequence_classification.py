"""The task of giving a text, or a pair of texts, one of several labels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from kdspec.api.component import Component
from kdspec.api.context import BuildContext, Input
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds import Augmentation, Dataset, Task
from kdspec.api.losses import LogitKind
from kdspec.api.task import Head
from kdspec.data import label_names, texts
from kdspec.data.columns import missing
from kdspec.data.label_names import LabelNames
from kdspec.data.text_rows import VARIES, LabelledTexts, TextRows
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.answers import Answers
    from kdspec.ops.mean import Mean

_IGNORE = -100


class SequenceClassification(Task):
    """One label for each text, or for each pair of texts.

    A row with an empty label, and every row of the split `unlabelled`, is unlabelled: it counts in no metric and no
    hard loss. A split without the label column is unlabelled.
    """

    name = "sequence_classification"
    scope = "position"
    head: ClassVar[str | None] = "sequence_classification"
    logits: ClassVar[LogitKind | None] = "classes"

    data: Dataset
    """The rows."""
    text: texts.TextColumns
    """The column of the text, or two columns for pairs: `[premise, hypothesis]`."""
    label: str
    """The column of the label: a name or a number."""
    labels: LabelNames | None = None
    """Label names in the order of the logits; numbers as text. Default: those found in `train`, sorted."""
    max_length: int | None = Field(default=None, ge=2)
    """Number of tokens to which a text, or the longer one of a pair, is truncated. Default: the tokenizer's limit."""
    augment: list[Augmentation] = []
    """Augmentations of the words of training rows, one after another, different in each epoch; only in stages with a
    teacher. An augmented row has no label."""
    metric: Literal["accuracy", "f1", "mcc"] = "accuracy"
    """The metric that selects the best student. `f1` is that of the second of two labels, else the mean over the
    labels; `mcc` is Matthews' correlation coefficient."""

    def adaptor(self) -> Mapping[str, str | list[str]]:
        """The places in the outputs of a transformers model."""
        return texts.ADAPTOR

    def example(self, context: BuildContext, rows: int, longest: int | None) -> Mapping[str, Input]:
        """Tokens, their mask and types, and labels."""
        del context
        return {**texts.example(rows, self.max_length, longest), "labels": Input((rows,), value=0)}

    def without_rows(self) -> Classification:
        """With the labels that are written."""
        return Classification(self, {})

    def varies(self) -> str | None:
        """Where texts are augmented."""
        return VARIES if self.augment else None

    def metric_names(self) -> Collection[str]:
        """Those of `metric`."""
        return ("accuracy", "f1", "mcc")

    def check(self, context: BuildContext) -> Iterator[Fault]:
        """Whether the rows have the columns of the texts, and those of `train` that of the label."""
        splits = texts.columns_of(self.data, context)
        yield from missing(splits, {("text", n): name for n, name in enumerate(self.text)}, {("label",): self.label})

    def build(self, context: BuildContext) -> Classification:
        """Read the rows and check their columns and labels."""
        return Classification(self, texts.splits_of(self.data, context))


class Classification(LabelledTexts):
    """The task with its rows, if it has been given any."""

    lower_is_better: Collection[str] = ()

    def __init__(self, task: SequenceClassification, splits: Mapping[str, Any]) -> None:
        self.metric: str | None = task.metric
        self._task, self._splits = task, splits
        rows = TextRows(splits, task.text, max_length=task.max_length, augment=task.augment, unlabelled=_IGNORE)
        if splits:
            texts.check_column(splits["train"], "train", task.label, ("label",))
        written = {split: self._written(split) for split in splits}
        names = task.labels if task.labels is not None else self._found(written["train"]) if splits else []
        self.head = Head(kind=task.head, labels=tuple(names))
        super().__init__(rows, {split: self._numbered(split, values) for split, values in written.items()}, "int64")

    def loss(self, logits: Tensor, labels: Tensor) -> Mean:
        """The cross-entropy over the labelled rows."""
        from kdspec.ops.divergence import cross_entropy

        return cross_entropy(logits, labels, _IGNORE)

    def metrics(self, answers: Answers) -> dict[str, float]:
        """Accuracy, F1 and Matthews' correlation over the labelled rows; empty where there are none."""
        import torch
        from torchmetrics.functional import classification

        truth = torch.cat(list(answers.labels[0]))
        labelled = truth != _IGNORE
        if not labelled.any():
            return {}
        truth, said = truth[labelled], torch.cat([batch.argmax(-1) for batch in answers.logits[0]])[labelled]
        classes = len(self.head.labels)
        f1: Callable[..., Tensor] = classification.binary_f1_score
        if classes > 2:
            f1 = lambda said, truth: classification.multiclass_f1_score(said, truth, classes, average="macro")  # noqa: E731 - one of two functions by the number of classes
        mcc = classification.multiclass_matthews_corrcoef(said, truth, classes)
        return {
            "accuracy": (said == truth).double().mean().item(),
            "f1": f1(said, truth).item(),
            "mcc": mcc.item(),
        }

    def _written(self, split: str) -> list[str | None]:
        """The label of each row as a spec would write it; None where it has none."""
        rows, column = self._splits[split], self._task.label
        if split == "unlabelled" or column not in rows.column_names:
            return [None] * len(rows)
        values = rows[column][:]
        for row, value in enumerate(values, 1):
            if isinstance(value, (list, dict, bytes)):
                message = f"row {row} of `{split}` has a {type(value).__name__} in `{column}`, not one label"
                raise Fault("KD502", message, ("label",))
        names = getattr(rows.features[column], "names", None)
        if names is not None:  # the data set knows the names of its numbers; -1 is none
            known = dict(enumerate(names))
            return [None if value is None or value == -1 else known.get(value, str(value)) for value in values]
        return [label_names.written(value) for value in values]

    def _found(self, written: list[str | None]) -> list[str]:
        names = getattr(self._splits["train"].features[self._task.label], "names", None)
        found = list(names) if names is not None else label_names.ordered(name for name in written if name is not None)
        label_names.at_least_two(found, self._task.label, ("label",))
        return found

    def _numbered(self, split: str, written: list[str | None]) -> list[int]:
        numbers: dict[str | None, int] = {name: number for number, name in enumerate(self.head.labels)}
        numbers[None] = _IGNORE
        for row, name in enumerate(written, 1):
            if name not in numbers:
                where = "labels" if self._task.labels is not None else "label"
                raise label_names.unknown(name or "", self.head.labels, split, row, (where,))
        return [numbers[name] for name in written]


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """Hand over the task."""
    return [SequenceClassification]
