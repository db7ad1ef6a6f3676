"""A task at work: the head that it asks for, its rows as batches, and what a model's outputs for them are worth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from kdspec.api.evaluator import Evaluator, LossAlone

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.batch import Batch
    from kdspec.api.step import Features
    from kdspec.ops.mean import Mean, Unit

Row = Mapping[str, Any]
"""A row that is encoded: what `collate` makes tensors of, without padding."""

_NO_LABEL = -100


@dataclass(frozen=True)
class Head:
    """What a task asks of the model that learns it."""

    kind: str | None = None
    """What the head is for, such as `sequence_classification`: by it a transformers model chooses its auto class. None
    asks for the bare model."""
    labels: tuple[str, ...] = ()
    """The label names in the order of the logits; empty where the task has none."""


@dataclass(frozen=True, eq=False)
class Reader:
    """How a model reads a row. Models whose readers are equal share encoded rows and batches."""

    tokenizer: Any | None = None
    """What cuts texts into tokens; None for a model that reads none."""
    form: str = ""
    """How the texts of a row are put together; "" as the task does it."""

    def __eq__(self, other: object) -> bool:
        """Whether the tokenizer is the same object, and the form the same."""
        return isinstance(other, Reader) and other.tokenizer is self.tokenizer and other.form == self.form

    def __hash__(self) -> int:
        return hash((id(self.tokenizer), self.form))


class BuiltTask(ABC):
    """A task with its rows. Row numbers of a split are stable: they are what the data order is made of."""

    head: Head = Head()
    length_key: str = "input_ids"
    """The entry of an encoded row that is as long as the row; where there is none, rows have no length."""

    @abstractmethod
    def rows(self, split: str) -> int:
        """How many rows the split (`train`, `validation`, `test`, `unlabelled`) has, 0 where there is none.

        `encode` may cut a long one into several, which then have numbers of their own.
        """

    @abstractmethod
    def encode(self, split: str, readers: Sequence[Reader]) -> Sequence[Sequence[Row]]:
        """The split's rows as each reader reads them, by row number: a sequence for each of the readers.

        Row n is the same part of the data for all of them. Most engines ask for several readers at once, since a task may
        have to cut long rows alike, or may find that the readers do not go together.
        """

    def draw(self, rows: Sequence[Row], generators: Sequence[Random], reader: Reader, *, taught: bool) -> Sequence[Row]:
        """Rows of `encode` as an epoch of training has them; the same in each, unless a task says otherwise.

        Args:
            rows: as `encode` has made them.
            generators: one a row, seeded by the run, the epoch and the row, and alike for every reader.
            reader: whose rows they are.
            taught: whether a teacher answers for the rows too.
        """
        del generators, reader, taught
        return rows

    @abstractmethod
    def collate(self, rows: Sequence[Row], reader: Reader) -> Batch:
        """One padded batch of encoded rows, on the CPU."""

    def hard_loss(self, features: Features, batch: Batch) -> Mapping[str, Mean]:
        """The losses of a model's outputs against the labels, by name; none where the task has no labels.

        Each is averaged over the labelled rows or tokens. One loss is the term `hard_labels` of a strategy, whatever its
        name; several are `hard_labels.<name>`.
        """
        del features, batch
        return {}

    def units(self, batch: Batch, masks: Mapping[str, Tensor]) -> Mapping[Unit, float]:
        """How many of each unit a batch has, told from its inputs alone.

        A loss says which unit its count is proportional to (`Mean.per`), so its share of an optimizer step is known before
        the later micro-batches have been computed. Reads the values of masks and labels, so the batch is on the CPU.

        Args:
            batch: of the student.
            masks: `inputs_mask` and `logits_mask`, as far as the student's adaptor takes them from the batch.
        """
        rows, target = len(batch.rows), next((batch.targets[name] for name in sorted(batch.targets)), None)
        mask, kept = masks.get("inputs_mask"), masks.get("logits_mask")
        if mask is None:
            first = next((tensor for field in batch.inputs.values() for tensor in field.values()), None)
            length = first.shape[1] if first is not None and first.ndim > 1 else 1
            tokens, pairs = rows * length, rows * length**2
        else:
            per_row = mask.flatten(1).count_nonzero(1).tolist()
            tokens, pairs = sum(per_row), sum(number**2 for number in per_row)
        classes = target is not None and not target.is_floating_point()
        positions = target.numel() if classes and target is not None else rows
        if kept is not None and target is not None and target.ndim < kept.ndim:
            kept = None  # one label for all the positions of a row: they are the classes
        known = None if target is None else target != _NO_LABEL if classes else ~target.isnan()
        return {
            "rows": float(rows),
            "labels": float(positions if kept is None else kept.count_nonzero()),
            "labelled": float(rows if known is None else known.sum()),
            "tokens": float(tokens),
            "pairs": float(pairs),
        }

    def evaluator(self, split: str) -> Evaluator:
        """What makes metrics of a model's outputs for a split; without an own one it is judged by its loss alone."""
        del split
        return LossAlone()


class WrappedTask(BuiltTask):
    """A task around another one: all that it does not do itself is the other's.

    Args:
        task: the other one.
    """

    def __init__(self, task: BuiltTask) -> None:
        self.task = task
        self.head, self.length_key = task.head, task.length_key

    def rows(self, split: str) -> int:
        """As the other task has them."""
        return self.task.rows(split)

    def encode(self, split: str, readers: Sequence[Reader]) -> Sequence[Sequence[Row]]:
        """As the other task does it."""
        return self.task.encode(split, readers)

    def draw(self, rows: Sequence[Row], generators: Sequence[Random], reader: Reader, *, taught: bool) -> Sequence[Row]:
        """As the other task does it."""
        return self.task.draw(rows, generators, reader, taught=taught)

    def collate(self, rows: Sequence[Row], reader: Reader) -> Batch:
        """As the other task does it."""
        return self.task.collate(rows, reader)

    def hard_loss(self, features: Features, batch: Batch) -> Mapping[str, Mean]:
        """Those of the other task."""
        return self.task.hard_loss(features, batch)

    def units(self, batch: Batch, masks: Mapping[str, Tensor]) -> Mapping[Unit, float]:
        """As the other task counts them."""
        return self.task.units(batch, masks)

    def evaluator(self, split: str) -> Evaluator:
        """That of the other task."""
        return self.task.evaluator(split)
