"""The task whose columns are a model's inputs as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from kdspec.api.component import Component
from kdspec.api.context import BuildContext, Input
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds import Dataset, Task
from kdspec.api.task import Head
from kdspec.data.columns import ColumnPlace, missing, no_column
from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.answers import Answers
    from kdspec.ops.mean import Mean

_IGNORE = -100
_FEW = 2


class Tensors(Task):
    """Columns of numbers, or of lists of numbers of equal length, which a model takes by their names.

    Integers become int64, floats the default float type. For data that is encoded already, and for models that read no
    text. Integer labels are classes, -100 where there is none; labels of floats are regression targets.
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
        """The places in the outputs of a model with transformers' names."""
        paths: dict[str, str | list[str]] = {
            "logits": "output.logits",
            "losses": "output.loss",
            "hidden": "output.hidden_states",
            "attention": "output.attentions",
        }
        if self.labels is not None:
            plain = self.labels.isidentifier() and not iskeyword(self.labels)
            paths["labels"] = f"batch.{self.labels}" if plain else f"batch[{self.labels!r}]"
        return paths

    def has_labels(self) -> bool:
        """Whether `labels` names a column."""
        return self.labels is not None

    def example(self, context: BuildContext, rows: int, longest: int | None) -> Mapping[str, Input] | None:
        """Tensors like the first rows, which have the shape of all."""
        del longest
        columns = self.data.first(context, _FEW)
        if columns is None:
            return None
        inputs = self.columns if self.columns is not None else list(columns)
        names = [name for name in inputs if name != self.labels] + ([self.labels] if self.labels is not None else [])
        known = {name: _input(columns[name], rows) for name in names if columns.get(name)}
        return {name: found for name, found in known.items() if found is not None} if len(known) == len(names) else None

    def without_rows(self) -> TensorRows:
        return TensorRows(self, {})

    def metric_names(self) -> Collection[str]:
        """Where the labels are classes."""
        return ("accuracy",)

    def check(self, context: BuildContext) -> Iterator[Fault]:
        """Whether the rows have the columns, and those of `train` that of the labels."""
        try:
            splits = self.data.column_names(context)
        except Fault as fault:
            fault.at = ("data", self.data.name, *fault.at)
            raise
        columns = enumerate(self.columns or ())
        inputs: dict[ColumnPlace, str] = {("columns", n): name for n, name in columns if name != self.labels}
        yield from missing(splits, inputs, {("labels",): self.labels} if self.labels is not None else {})

    def build(self, context: BuildContext) -> TensorRows:
        """Read the rows and check that each column makes a tensor."""
        try:
            splits = self.data.build(context)
        except Fault as fault:
            fault.at = ("data", self.data.name, *fault.at)
            raise
        return TensorRows(self, splits)


class TensorRows:
    """The task with its rows."""

    head = Head()
    metric: str | None = None
    lower_is_better: Collection[str] = ()

    def __init__(self, task: Tensors, splits: Mapping[str, Any]) -> None:
        self._task, self._splits = task, splits
        self.label_keys = frozenset([task.labels] if task.labels is not None else [])
        for split, rows in splits.items():
            if not len(rows):
                raise Fault("KD502", f"the split `{split}` has no rows", ("data", task.data.name, split))
        self._tensors = {split: self._read(split) for split in splits}

    def rows(self, split: str) -> int:
        """How many rows the split has."""
        return len(self._splits[split]) if split in self._splits else 0

    def encode(self, split: str, tokenizer: Any | None) -> list[dict[str, Tensor]]:
        """The rows as they are; each value is a view of its column's tensor."""
        del tokenizer
        columns = self._tensors[split]
        return [{name: tensor[row] for name, tensor in columns.items()} for row in range(self.rows(split))]

    def collate(self, examples: Sequence[Mapping[str, Any]], tokenizer: Any | None) -> dict[str, Tensor]:
        """Stack the rows, the labels among them under the name of their column."""
        import torch

        del tokenizer
        return {name: torch.stack([example[name] for example in examples]) for name in examples[0]}

    def loss(self, logits: Tensor, labels: Tensor) -> Mean:
        """The cross-entropy of integer labels, the mean squared error of others."""
        from kdspec.ops.divergence import cross_entropy
        from kdspec.ops.mean import Mean
        from kdspec.ops.precision import widened

        if not labels.is_floating_point():
            return cross_entropy(logits, labels, _IGNORE)
        said = widened(logits.squeeze(-1) if logits.shape == (*labels.shape, 1) else logits)
        if said.shape != labels.shape:
            message = f"the outputs are {list(said.shape)}, the labels {list(labels.shape)}"
            raise Fault("KD507", message, ("labels",))
        return Mean((said - labels).square().mean() * len(labels), float(len(labels)), "rows")

    def metrics(self, answers: Answers) -> dict[str, float]:
        """Accuracy over the labelled rows, where each row has one class; else nothing."""
        import torch

        logits, labels = answers.logits[0], answers.labels[0]
        if logits[0].ndim != 2 or labels[0].ndim != 1 or labels[0].is_floating_point():
            return {}
        truth, said = torch.cat(list(labels)), torch.cat([batch.argmax(-1) for batch in logits])
        labelled = truth != _IGNORE
        if not labelled.any():
            return {}
        return {"accuracy": (said == truth)[labelled].double().mean().item()}

    def _read(self, split: str) -> dict[str, Tensor]:
        import torch

        rows = self._splits[split]
        columns: dict[str, Tensor] = {}
        inputs = self._task.columns if self._task.columns is not None else self._splits["train"].column_names
        for number, name in enumerate(inputs):
            if name in self.label_keys:
                continue
            at = ("columns", number) if self._task.columns is not None else ("data", self._task.data.name, split)
            columns[name] = _tensor(rows, split, name, at)
        label = self._task.labels
        if label is None:
            return columns
        if label in rows.column_names and split != "unlabelled":
            columns[label] = _tensor(rows, split, label, ("labels",))
            return columns
        like = _tensor(self._splits["train"], "train", label, ("labels",))
        if like.is_floating_point():
            raise Fault("KD502", f"the split `{split}` has no labels, which are not classes", ("labels",))
        columns[label] = torch.full((len(rows), *like.shape[1:]), _IGNORE)
        return columns


def _tensor(rows: Any, split: str, name: str, at: tuple[str | int, ...]) -> Tensor:
    import torch

    if name not in rows.column_names:
        raise no_column(rows.column_names, split, name, at)
    values = rows[name][:]
    shape, example = None, None
    for row, value in enumerate(values, 1):
        found = _shape(value)
        if found is None:
            message = f"row {row} of `{split}` has no number or list of numbers in `{excerpt(name)}`"
            raise Fault("KD502", message, at, help="rows are counted from 1; `columns` can leave a column out")
        if shape is not None and found != shape:
            message = f"row {row} of `{split}` has {list(found)} numbers in `{excerpt(name)}`, row 1 has {list(shape)}"
            raise Fault("KD502", message, at, help="all rows of a column must have the same shape")
        shape, example = found, value
    while isinstance(example, list):
        example = example[0] if example else None
    dtypes = {bool: torch.bool, int: torch.long}
    return torch.tensor(values, dtype=dtypes.get(type(example), torch.get_default_dtype()))


def _input(values: Sequence[Any], rows: int) -> Input | None:
    """A batch of such values; None where they are no numbers, which the run says of a row."""
    example = values[0]
    shape = _shape(example)
    while isinstance(example, list) and example:
        example = example[0]
    dtypes = {bool: "bool", int: "int64", float: "float32"}
    return None if shape is None or type(example) not in dtypes else Input((rows, *shape), dtypes[type(example)])


def _shape(value: Any) -> tuple[int, ...] | None:
    """The shape of nested lists of numbers, or None where they are ragged or hold something else."""
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
    """Hand over the task."""
    return [Tensors]
