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
from kdspec.api.spec.bounds import LONGEST_ROW
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator, State
from kdspec.api.working.row_answers import RowAnswers
from kdspec.api.working.standalone import Standalone
from kdspec.api.working.task import Head, Reader
from kdspec.data import confidence, label_columns, texts
from kdspec.data.answers import error_analysis
from kdspec.data.answers.beside_teacher import BesideTeacher, check_metric, names_beside
from kdspec.data.answers.class_answers import LabelAnswers
from kdspec.data.answers.error_analysis import Counts, Decisions
from kdspec.data.answers.same_answers import share_of_same
from kdspec.data.answers.standalone_answers import of_texts
from kdspec.data.columns import ColumnPlace, missing, named
from kdspec.data.confidence import ConfidenceMetric
from kdspec.data.label_columns import LabelColumns, MissingMarks
from kdspec.data.label_names import SUSPECT, LabelNames
from kdspec.data.labels.label_lists import LabelLists, ListColumn
from kdspec.data.labels.taught_classes import taught_classes
from kdspec.data.numbers import decision, number
from kdspec.data.text_rows import VARIES, LabelledTexts, TextRows
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kdspec.api.working.step import Features
    from kdspec.ops.mean import Mean

_CODE = "KD502"


class MultiLabel(Task):
    """Any number of labels for each text or pair of texts, possibly none.

    Each label has its own logit; its sigmoid is the probability of the label. The hard loss is the binary
    cross-entropy, averaged over labels and rows. Soft losses: `bce`, or `mse`.

    An empty list, or with a `separator` an empty text, is a row without any label. A row with the value null or a mark of
    `missing`, every row of the split `unlabelled`, and a split without the column or without a label in any row are
    unlabelled: they are left out of the metrics and the hard loss. A list may be written in a text, as Python, JSON or numpy
    write it. Lists of one length that have a 0 or 1 for each label are vectors; `labels` names their places. Without `label`
    no row is labelled: metrics are measured beside a teacher.
    """

    name = "multi_label"
    scope = "position"
    head: ClassVar[str | None] = "multi_label"
    labelled: ClassVar[bool] = True
    measured_beside: ClassVar[bool] = True
    length_limit: ClassVar[str | None] = "max_length"
    answered: ClassVar[Literal["row", "word"] | None] = "row"
    logits: ClassVar[LogitKind | None] = "labels"

    data: Dataset
    """The rows."""
    text: texts.TextColumns
    """The column of the text, or two columns for pairs: `[premise, hypothesis]`."""
    label: LabelColumns = Field(default=[], examples=["label"])
    """A column of lists of labels, or of texts with a `separator`; or a list of columns, one named after each label,
    with 1 or true if the row has it, else 0 or false. Default: the rows have no labels."""
    separator: str | None = Field(default=None, min_length=1)
    """The separator of labels in a text, such as `;`. Spaces around labels are ignored."""
    labels: LabelNames | None = None
    """Label names in the order of the logits, and of vectors; for lists of the numbers 0 to n - 1 their names. Default: the
    columns, those that the data set declares, or those found in `train`, sorted; numbers and vectors have the names of a
    loaded head with as many classes."""
    missing: MissingMarks = []
    """How a row whose labels are not known is written, such as `?`, besides null: a text, or several."""
    without_text: texts.WithoutText = "error"
    """For a row whose text is empty or null, or one of its two texts: an error, or `leave_out`, which reports their number."""
    max_length: int | None = Field(default=None, ge=2, le=LONGEST_ROW)
    """Number of tokens to which a text, or the longer one of a pair, is truncated. Default: the tokenizer's limit."""
    augment: list[Augmentation] = []
    """Augmentations of the words of training rows, one after another, different in each epoch; only in stages with a
    teacher. An augmented row has no labels."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """The metrics take a label as predicted if its probability is above this."""
    metric: Literal["micro_f1", "macro_f1", "subset_accuracy", ConfidenceMetric] = "micro_f1"
    """The metric that selects the best student. `micro_f1` is the F1 over all decisions, `macro_f1` is the mean of the F1
    of each label, and `subset_accuracy` is the share of rows with every label correct. The others are of the confidence in
    the decisions, one for each row and label: the calibration error in bins of equal width (`ece`) and of equally many
    decisions (`ece_adaptive`), the score of Brier, the negative log-likelihood, and the share of decisions of highest
    confidence of which 95 % are right."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if len(self.label) > 1:
            for key in ("separator", "labels"):
                if getattr(self, key) is not None:
                    values = {"keys": [key, "label"], "key": key}
                    raise PydanticCustomError(
                        "exclusive_keys", "`{key}` and several columns exclude each other", values
                    )
        label_columns.refuse_empty(self, self.label)
        check_metric(self, labelled=bool(self.label))
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
        """Tokens, their mask and types, and a number for each label."""
        del context
        count = len(self._names() or ("", ""))
        return {
            **texts.example(rows, self.max_length, longest),
            "labels": Input((rows, count), "float32", 0, target=True),
        }

    def sample(self, context: BuildContext, rows: int) -> Sequence[Sequence[str]] | None:
        return texts.sample(self.data, context, self.text, rows)

    def to_predict(self, data: Dataset, labels: Sequence[str]) -> Self:
        """Without augmentations."""
        names = {"labels": list(labels)} if len(self.label) == 1 else {}
        return self.model_copy(update={"data": data, "missing": [], "augment": [], **names})

    def without_rows(self) -> LabelledRows:
        """With the labels in the spec."""
        return LabelledRows(self, {}, TaskContext())

    def varies(self) -> str | None:
        """If texts are augmented."""
        return VARIES if self.augment else None

    def label_columns(self) -> Mapping[ColumnPlace, str]:
        """Those of `label`."""
        return {("label", number): name for number, name in enumerate(self.label)}

    def metric_names(self) -> Collection[str]:
        """Those of `metric`, or those beside a teacher."""
        if not self.label:
            return names_beside("labels")
        return ("micro_f1", "macro_f1", "subset_accuracy", *confidence.METRICS)

    def check(self, context: BuildContext) -> Iterator[Fault]:
        """Whether the rows have the columns of the texts."""
        splits = texts.columns_of(self.data, context)
        yield from missing(splits, {("text", n): name for n, name in enumerate(self.text)}, {}, named(self))

    def build(self, context: TaskContext) -> LabelledRows:
        """Read the rows and check their columns and labels."""
        return LabelledRows(
            self,
            texts.splits_of(
                self.data,
                context,
                self.label,
                inputs={("text", n): name for n, name in enumerate(self.text)},
                without_text=self.without_text,
                classes=self.label,
            ),
            context,
        )

    def _names(self) -> Sequence[str] | None:
        """The labels, if they do not depend on the rows; else None."""
        return self.label if len(self.label) > 1 else self.labels


class LabelledRows(LabelledTexts):
    """The built task; without rows if there are no splits."""

    def __init__(self, task: MultiLabel, splits: Mapping[str, Any], context: TaskContext) -> None:
        self._task = task
        if splits and context.reads_labels:
            label_columns.check(splits, task.label)
        if not task.label:
            found = self._unlabelled(splits, context)
        else:
            found = self._of_columns(splits, context) if len(task.label) > 1 else self._of_lists(splits, context)
        self.head = Head(kind=task.head, labels=found.names)
        none = [math.nan] * len(found.names)
        rows = TextRows(splits, task.text, max_length=task.max_length, augment=task.augment, unlabelled=none)
        super().__init__(rows, found.rows, "float32")

    def hard_loss(self, features: Features, batch: Batch) -> Mapping[str, Mean]:
        """The binary cross-entropy over the known decisions."""
        from kdspec.objectives.hard_labels import by_head
        from kdspec.ops.divergence import binary_cross_entropy

        return by_head(features, batch, binary_cross_entropy)

    def evaluator(self, split: str) -> Evaluator:
        """F1 and calibration over the known decisions, and the share of rows with every label correct."""
        del split
        return LabelMetrics(self._task.metric, self._task.threshold)

    def answers(self, split: str) -> RowAnswers:
        """The labels of each row, and the logits of all."""
        del split
        return LabelAnswers(self.head.labels, _limit(self._task.threshold))

    def standalone(self, reader: Reader, module: nn.Module) -> Standalone:
        """The labels above the threshold."""
        del module
        return of_texts(
            "labels",
            reader.tokenizer,
            len(self._task.text),
            self._task.max_length,
            limit=_limit(self._task.threshold),
        )

    def beside_teacher(self, split: str) -> Evaluator:
        """The share of the teacher's decisions, and the divergence from it."""
        del split
        return BesideTeacher("labels", threshold=self._task.threshold)

    def _unlabelled(self, splits: Mapping[str, Any], context: TaskContext) -> LabelLists:
        names = taught_classes(context, self._task.labels) if splits else tuple(self._task.labels or ())
        none = [math.nan] * len(names)
        return LabelLists(names, {split: [none] * len(of) for split, of in splits.items()})

    def _of_lists(self, splits: Mapping[str, Any], context: TaskContext) -> LabelLists:
        task = self._task
        column = ListColumn(
            column=task.label[0], at=("label", 0), separator=task.separator, labels=task.labels, missing=task.missing
        )
        return column.read(splits, context) if splits else LabelLists(tuple(task.labels or ()), {})

    def _of_columns(self, splits: Mapping[str, Any], context: TaskContext) -> LabelLists:
        """Columns of 0 and 1; -1 is what public test sets have for rows that are not scored."""
        task, rows = self._task, {}
        for split, of in splits.items():
            rows[split] = label_columns.numbers(
                of, split, task.label, decision, otherwise="neither 0 nor 1", missing=[*task.missing, "-1"]
            )
            marks = sum(
                number(value) == -1 for name in task.label if label_columns.has(of, split, name) for value in of[name]
            )
            if marks and "-1" not in task.missing:
                message = f"{marks:,} values of the label columns of `{split}` are -1: they count as labels that are not known"
                context.tell(Fault(SUSPECT, message, ("label",)))
        return LabelLists(tuple(task.label), rows)


def _limit(threshold: float) -> float:
    """The logit of a probability."""
    return math.log(threshold / (1 - threshold))


def _f1(hits: Tensor, given: Tensor, due: Tensor) -> float:
    """The mean of 2·hits / (given + due); 0 for a label that is neither given nor due."""
    return (2 * hits / (given + due).clamp(min=1)).mean().item()


class LabelMetrics(Evaluator):
    """F1 over the known decisions, how far their confidence can be trusted, and the share of rows with every label correct.

    The F1 of a label that no row has and the model never predicts is 0.

    Args:
        metric: the one that selects the best student.
        threshold: the probability above which a label is predicted.
    """

    others = tuple(confidence.METRICS.values())
    agrees_on = "decisions alike, one for each row and label"

    def __init__(self, metric: str, threshold: float) -> None:
        self.primary, self.limit = confidence.metric(metric), _limit(threshold)

    def add(self, features: Features, batch: Batch) -> State:
        """For each row the predicted labels, with their confidence, and the true ones."""
        import torch

        from kdspec.objectives.hard_labels import labels
        from kdspec.objectives.soft_labels import outputs

        truth, logits = labels(features, batch)[0], outputs(features)[0].dense().float()
        given = logits > self.limit
        return {
            "rows": torch.tensor(batch.rows),
            "given": given,
            "true": truth == 1,
            "known": ~truth.isnan(),
            **confidence.of_labels(logits, truth, given),
        }

    def merge(self, states: Sequence[State]) -> dict[str, float]:
        """Empty if no decision has a label."""
        import torch

        if not any(state["known"].any() for state in states):
            return {}
        counts, alike = torch.zeros(3, 1, dtype=torch.long), []
        # State by state: the decisions of all rows at once would need their memory several times.
        for state in states:
            known = state["known"]
            predicted, true = state["given"] & known, state["true"] & known
            counts = counts + torch.stack([found.sum(0) for found in (predicted & true, predicted, true)]).cpu()
            alike.append((predicted == true)[known.all(1)].all(1).cpu())
        hits, positive, due = counts.double()
        found = {
            "micro_f1": _f1(hits.sum(), positive.sum(), due.sum()),
            "macro_f1": _f1(hits, positive, due),
        }
        if len(whole := torch.cat(alike)):
            found["subset_accuracy"] = whole.double().mean().item()
        count = sum(int(state["known"].sum()) for state in states)
        sure, right, end = torch.empty(count), torch.empty(count, dtype=torch.bool), 0
        for state in states:
            known = state["known"]
            first, end = end, end + int(known.sum())
            sure[first:end] = state["confidence"][known]
            right[first:end] = (state["given"] == state["true"])[known]
        brier, nll = (torch.stack([state["sums"] for state in states]).sum(0) / len(right)).tolist()
        return found | confidence.metrics(sure, right, brier, nll)

    def agreement(self, states: Sequence[State], reference: Sequence[State]) -> float | None:
        """The share of equal decisions at the threshold: of those with a label, or of all if none has one."""
        return share_of_same(states, reference, "given", "known")

    def reliability(self, states: Sequence[State], reference: Sequence[State]) -> Mapping[str, Any]:
        """Of the known decisions; a teacher is asked for all decisions of a row."""
        return confidence.reliability(_answers(states), _answers(reference) if reference else None)

    def error_analysis(
        self, states: Sequence[State], reference: Sequence[State], names: Sequence[str]
    ) -> Mapping[str, Any]:
        """Of the known decisions by label; all decisions are compared with the teacher's."""
        if any(state["given"].shape[1] != len(names) for state in (*states, *reference)):
            return {}
        scores = error_analysis.class_scores(_counts(states, names), _counts(reference, names) if reference else None)
        if not reference:
            return scores
        return {**scores, **error_analysis.differing_decisions(_decisions(states), _decisions(reference), names)}


def _counts(states: Sequence[State], names: Sequence[str]) -> dict[str, Counts]:
    """How often each label is predicted and is one, among the known decisions."""
    import torch

    counts = torch.zeros(3, len(names), dtype=torch.long)
    for state in states:
        given, true = state["given"] & state["known"], state["true"] & state["known"]
        counts += torch.stack([found.sum(0) for found in (given & true, given, true)])
    return {name: Counts(*of) for name, of in zip(names, counts.T.tolist(), strict=True)}


def _decisions(states: Sequence[State]) -> Decisions:
    import torch

    rows, known, sure, given, true = (
        torch.cat([state[name] for state in states]) for name in ("rows", "known", "confidence", "given", "true")
    )
    return Decisions(rows, given, true.short().masked_fill(~known, error_analysis.UNLABELLED), sure)


def _answers(states: Sequence[State]) -> confidence.LabelledAnswers:
    import torch

    rows, known, sure, given, true = (
        torch.cat([state[name] for state in states]) for name in ("rows", "known", "confidence", "given", "true")
    )
    rows = rows[:, None].expand_as(known)
    keys = rows * known.shape[1] + torch.arange(known.shape[1])
    return confidence.LabelledAnswers(keys[known], rows[known], sure[known], (given == true)[known])


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The task."""
    return [MultiLabel]
