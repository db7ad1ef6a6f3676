"""The task `tensors`: columns are model inputs, unchanged."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext, Input, TaskContext
from kdspec.api.kinds.kinds import Dataset, Task
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator, State
from kdspec.api.working.task import BuiltTask, Reader, Row
from kdspec.data import texts
from kdspec.data.answers.same_answers import share_of_same
from kdspec.data.columns import ColumnPlace, missing, named, no_column
from kdspec.data.numbers import decision, described, is_integer, is_truth, number
from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.working.step import Features
    from kdspec.ops.mean import Mean

_Kind = Literal["bool", "int", "float"]
_IGNORE = -100
_FEW = 2
_MANY = 10**9


class Tensors(Task):
    """Columns of numbers, or of lists of numbers of equal length, which a model takes by their names.

    Integers become int64, floats the default float type, and a column has the type that it has in `train`. For data that is already encoded, and for models that read no
    text. Integer labels are classes, with -100 for no label; float labels are regression targets.
    """

    name = "tensors"
    scope = "position"
    head: ClassVar[str | None] = None

    data: Dataset
    """The rows."""
    columns: list[str] | None = Field(default=None, min_length=1)
    """The model's inputs. Default: all columns but `labels`."""
    labels: str | None = None
    """The column of the labels. Default: no labels; the student learns from a teacher only."""

    def adaptor(self) -> Mapping[str, str | list[str]]:
        """The field paths for a model with the output names of transformers."""
        paths: dict[str, str | list[str]] = {
            "logits": "output.logits",
            "losses": "output.loss",
            "hidden": "output.hidden_states",
            "attention": "output.attentions",
            "attention_scores": "output.attention_scores",
        }
        if self.labels is not None:
            plain = self.labels.isidentifier() and not iskeyword(self.labels)
            paths["labels"] = f"batch.{self.labels}" if plain else f"batch[{self.labels!r}]"
        return paths

    def has_labels(self) -> bool:
        """Whether `labels` names a column."""
        return self.labels is not None

    def example(self, context: BuildContext, rows: int, longest: int | None) -> Mapping[str, Input] | None:
        """Tensors with the shapes of the first rows; all rows have the same."""
        del longest
        columns = self.data.first(context, _FEW)
        if columns is not None and any(isinstance(value, str) for values in columns.values() for value in values):
            columns = self.data.first(context, _MANY)  # whether the texts of a column write integers, all of them show
        if columns is None:
            return None
        inputs = self.columns if self.columns is not None else list(columns)
        names = [name for name in inputs if name != self.labels] + ([self.labels] if self.labels is not None else [])
        known = {name: _input(columns[name], rows, target=name == self.labels) for name in names if columns.get(name)}
        return {name: found for name, found in known.items() if found is not None} if len(known) == len(names) else None

    def without_rows(self) -> TensorRows:
        return TensorRows(self, {}, TaskContext())

    def metric_names(self) -> Collection[str]:
        """`accuracy`, computed if the labels are classes."""
        return ("accuracy",)

    def check(self, context: BuildContext) -> Iterator[Fault]:
        """Whether the rows have the columns."""
        splits = texts.columns_of(self.data, context)
        columns = enumerate(self.columns or ())
        inputs: dict[ColumnPlace, str] = {("columns", n): name for n, name in columns if name != self.labels}
        yield from missing(splits, inputs, {}, named(self))

    def label_columns(self) -> Mapping[ColumnPlace, str]:
        """That of `labels`, if there is one."""
        return {} if self.labels is None else {("labels",): self.labels}

    def build(self, context: TaskContext) -> TensorRows:
        """Read the rows and check that each column makes a tensor."""
        reads = None if self.columns is None else (*self.columns, self.labels)
        together = [name for name in self.columns or () if name != self.labels]
        classes = () if self.labels is None else (self.labels,)
        return TensorRows(self, texts.splits_of(self.data, context, reads, together=together, classes=classes), context)


class TensorRows(BuiltTask):
    """The task with its rows."""

    def __init__(self, task: Tensors, splits: Mapping[str, Any], context: TaskContext) -> None:
        self._task, self._splits = task, splits
        if splits and task.labels is not None and context.reads_labels:
            texts.check_column(splits["train"], "train", task.labels, ("labels",))
        self._kinds: dict[str, _Kind] = {}
        if splits:
            train = splits["train"]
            named = [*(task.columns or train.column_names), *filter(None, [task.labels])]
            self._kinds = {name: _kind(train[name][:]) for name in named if name in train.column_names}
        self._tensors = {split: self._read(split) for split in splits}

    def rows(self, split: str) -> int:
        """Number of rows of the split."""
        return len(self._splits[split]) if split in self._splits else 0

    def labelled(self, split: str) -> int:
        """Number of rows with a label; all rows if the task has no labels."""
        labels = self._tensors.get(split, {}).get(self._task.labels or "")
        return self.rows(split) if labels is None else int((labels != _IGNORE).reshape(len(labels), -1).any(1).sum())

    def encode(self, split: str, readers: Sequence[Reader]) -> list[list[dict[str, Tensor]]]:
        """The rows, the same for all readers; each value is a view of its column's tensor."""
        columns = self._tensors[split]
        rows = [{name: tensor[row] for name, tensor in columns.items()} for row in range(self.rows(split))]
        return [rows for _ in readers]

    def collate(self, rows: Sequence[Row], reader: Reader) -> Batch:
        """Stack the rows; the labels have the name of their column."""
        import torch

        del reader
        columns = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        targets = {name: tensor for name, tensor in columns.items() if name == self._task.labels}
        inputs = {name: tensor for name, tensor in columns.items() if name != self._task.labels}
        return Batch(inputs={"": inputs}, targets=targets)

    def hard_loss(self, features: Features, batch: Batch) -> Mapping[str, Mean]:
        """The cross-entropy of integer labels, the mean squared error of others."""
        from kdspec.objectives.hard_labels import by_head

        return by_head(features, batch, self._loss, {"labels": self._task.labels or ""})

    def evaluator(self, split: str) -> Evaluator:
        """Accuracy, if each row has one class."""
        del split
        return RowAccuracy(self._task.labels or "")

    def _loss(self, logits: Tensor, labels: Tensor) -> Mean:
        from kdspec.ops.divergence import cross_entropy
        from kdspec.ops.mean import Mean
        from kdspec.ops.precision import widened

        if not labels.is_floating_point():
            return cross_entropy(logits, labels, _IGNORE)
        predicted = widened(logits.squeeze(-1) if logits.shape == (*labels.shape, 1) else logits)
        if predicted.shape != labels.shape:
            message = f"the outputs have shape {list(predicted.shape)}, the labels {list(labels.shape)}"
            raise Fault("KD507", message, ("labels",))
        return Mean((predicted - labels).square().mean() * len(labels), float(len(labels)), "rows")

    def _read(self, split: str) -> dict[str, Tensor]:
        import torch

        rows = self._splits[split]
        columns: dict[str, Tensor] = {}
        inputs = self._task.columns if self._task.columns is not None else self._splits["train"].column_names
        for place, name in enumerate(inputs):
            if name == self._task.labels:
                continue
            at = ("columns", place) if self._task.columns is not None else ("data", self._task.data.name, split)
            columns[name] = _tensor(rows, split, name, at, self._kinds.get(name))
        label = self._task.labels
        if label is None:
            return columns
        if label in rows.column_names and split != "unlabelled":
            columns[label] = _tensor(rows, split, label, ("labels",), self._kinds.get(label))
            return columns
        labelled = next((name for name in self._splits if label in self._splits[name].column_names), None)
        if labelled is None:
            columns[label] = torch.full((len(rows),), _IGNORE)
            return columns
        like = _tensor(self._splits[labelled], labelled, label, ("labels",))
        if like.is_floating_point():
            raise Fault(
                "KD502", f"the split `{split}` has no labels; only labels of classes may be missing", ("labels",)
            )
        columns[label] = torch.full((len(rows), *like.shape[1:]), _IGNORE)
        return columns


class RowAccuracy(Evaluator):
    """Accuracy over the labelled rows if each row has one class; else no metric but the loss.

    Args:
        labels: the column of the labels.
    """

    agrees_on = "rows with the same class"

    def __init__(self, labels: str) -> None:
        self.keys = {"labels": labels}

    def add(self, features: Features, batch: Batch) -> State:
        """The predicted class of each row, and its label."""
        import torch

        from kdspec.objectives.hard_labels import labels
        from kdspec.objectives.soft_labels import outputs

        logits, truth = outputs(features)[0].dense(), labels(features, batch, self.keys)[0]
        if logits.ndim != 2 or truth.ndim != 1 or truth.is_floating_point():
            return {}
        return {
            "rows": torch.tensor(batch.rows),
            "predicted": logits.float().argmax(-1),
            "truth": truth,
            "known": truth != _IGNORE,
            "classes": torch.tensor(logits.shape[-1]),
        }

    def merge(self, states: Sequence[State]) -> dict[str, float]:
        """Empty if no row is labelled."""
        import torch

        if not states:
            return {}
        names = ("predicted", "truth", "known")
        predicted, truth, known = (torch.cat([state[name] for state in states]) for name in names)
        right = (predicted == truth)[known]
        return {"accuracy": right.double().mean().item()} if len(right) else {}

    def agreement(self, states: Sequence[State], reference: Sequence[State]) -> float | None:
        """The share of labelled rows with the same class, or of all rows if none has a label."""
        return share_of_same(states, reference, "predicted", "known")


def _tensor(rows: Any, split: str, name: str, at: tuple[str | int, ...], kind: _Kind | None = None) -> Tensor:
    """The tensor of a column; `kind` is that of the column in `train`, and its own by default."""
    import torch

    if name not in rows.column_names:
        raise no_column(rows.column_names, split, name, at)
    values = rows[name][:]
    kind = kind or _kind(values)
    shape = None
    for row, value in enumerate(values, 1):
        made = _made(value, kind)
        found = _shape(made)
        if found is None:
            what = f"{described(value)}, not a number," if isinstance(value, str) else "no number or list of numbers"
            message = f"row {row} of `{split}` has {what} in `{excerpt(name)}`"
            raise Fault("KD502", message, at, help="rows are counted from 1; `columns` can leave a column out")
        if shape is not None and found != shape:
            message = f"row {row} of `{split}` has {list(found)} numbers in `{excerpt(name)}`, row 1 has {list(shape)}"
            raise Fault("KD502", message, at, help="all rows of a column must have the same shape")
        if kind == "int" and not _whole(made):
            message = f"row {row} of `{split}` has {described(made)} in `{excerpt(name)}`, and `train` has integers"
            raise Fault("KD502", message, at, help="write `1.0` for `1` in `train` if they are not counts or classes")
        shape = found
        values[row - 1] = made
    dtypes = {"bool": torch.bool, "int": torch.long, "float": torch.get_default_dtype()}
    return torch.tensor(values, dtype=dtypes[kind])


def _kind(values: Sequence[Any]) -> _Kind:
    """The type of a column's numbers: that of the last value, or what all its texts write."""
    if any(isinstance(value, str) for value in values):
        written = [value for value in values if isinstance(value, str)]
        return "bool" if all(map(is_truth, written)) else "int" if all(map(is_integer, written)) else "float"
    example = values[-1]
    while isinstance(example, list):
        example = example[0] if example else None
    return "bool" if isinstance(example, bool) else "int" if isinstance(example, int) else "float"


def _made(value: Any, kind: _Kind) -> Any:
    """The number that a text writes; other values, and texts that write none, unchanged."""
    if not isinstance(value, str):
        return value
    if kind == "int" and is_integer(value):
        return int(value)
    found = decision(value) if kind == "bool" else number(value)
    return value if found is None else found


def _whole(value: Any) -> bool:
    return all(map(_whole, value)) if isinstance(value, list) else float(value).is_integer()


def _input(values: Sequence[Any], rows: int, *, target: bool) -> Input | None:
    """The input of a batch of such values; None if they are not numbers, which the run reports with the row."""
    kind = _kind(values)
    shape = _shape(_made(values[0], kind))
    if shape is None:
        return None
    return Input((rows, *shape), {"bool": "bool", "int": "int64", "float": "float32"}[kind], target=target)


def _shape(value: Any) -> tuple[int, ...] | None:
    """The shape of nested lists of numbers; None if they are ragged or have other values."""
    if isinstance(value, (bool, int, float)):
        return ()
    if not isinstance(value, list):
        return None
    inner = {_shape(item) for item in value}
    if len(inner) > 1 or None in inner:
        return None
    return (len(value), *(inner.pop() or () if inner else ()))


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The task."""
    return [Tensors]
