"""A built task: the head that it needs, its rows as batches, its hard loss and its evaluator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from kdspec.api.working.evaluator import Evaluator, LossAlone

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kdspec.api.working.batch import Batch
    from kdspec.api.working.pieces import Pieces
    from kdspec.api.working.row_answers import RowAnswers
    from kdspec.api.working.standalone import Standalone
    from kdspec.api.working.step import Features, View
    from kdspec.ops.mean import Mean, Unit

Row = Mapping[str, Any]
"""An encoded row, without padding; `collate` makes tensors of it."""

_NO_LABEL = -100

ANSWERS = "answers."
"""The beginning of the form (`Reader.form`) of a model whose answers are in the rows; its name follows."""


@dataclass(frozen=True)
class Head:
    """The head that a task needs of a model."""

    kind: str | None = None
    """The kind of head, such as `sequence_classification`; a transformers model selects its auto class by it. None: the
    bare model."""
    labels: tuple[str, ...] = ()
    """The label names in the order of the logits; empty if the task has none."""


@dataclass(frozen=True, eq=False)
class Reader:
    """How a model reads a row. Models with equal readers share encoded rows and batches."""

    tokenizer: Any | None = None
    """The tokenizer; None for a model without tokens."""
    form: str = ""
    """How the texts of a row are joined; "": as the task does it."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """What is written before a text: for `query` and `document`, and `""` for a text of which the task says neither."""
    side: Literal["", "teacher"] = ""
    """`teacher` for a frozen model, where it may read another text of a training row than the student
    (`BuiltTask.sides`)."""

    def __eq__(self, other: object) -> bool:
        """Whether the tokenizer is the same object, and the rest the same."""
        return isinstance(other, Reader) and other.tokenizer is self.tokenizer and other._rest == self._rest

    def __hash__(self) -> int:
        return hash((id(self.tokenizer), self._rest))

    @property
    def answers_of(self) -> str | None:
        """The model whose recorded answers are read in place of texts; None: texts are read."""
        return self.form.removeprefix(ANSWERS) if self.form.startswith(ANSWERS) else None

    @property
    def _rest(self) -> tuple[object, ...]:
        return (self.form, self.side, tuple(sorted(self.prompts.items())))


class BuiltTask(ABC):
    """A task with its rows. Row numbers of a split are stable; the data order is a permutation of them."""

    head: Head = Head()
    length_key: str = "input_ids"
    """The entry of an encoded row that is as long as the row; if it does not exist, rows have no length."""
    across_steps: bool = False
    """Whether `hard_loss_across` compares the rows of whole optimizer steps, and not those of micro-batches."""
    sides: bool = False
    """Whether teachers read other texts of a training row than the student. Their `Reader.side` is then `teacher`."""

    @abstractmethod
    def rows(self, split: str) -> int:
        """Number of rows of the split (`train`, `validation`, `test`, `unlabelled`); 0 if there is none.

        `encode` may split a long row into several, each with its own number.
        """

    def labelled(self, split: str) -> int:
        """Number of rows of the split that the metrics count; by default all of them.

        For a task with labels these are the rows that have one. A split of which it is 0 is not evaluated: the best student
        is not selected by it, and the table at the end takes another split.
        """
        return self.rows(split)

    @abstractmethod
    def encode(self, split: str, readers: Sequence[Reader]) -> Sequence[Sequence[Row]]:
        """The encoded rows of the split: one sequence per reader, by row number.

        A reader of recorded answers (`Reader.answers_of`), which only tasks with `Task.answered` get, needs the labels alone.

        Row n is the same part of the data for all readers. They are encoded together, since a task may have to split long
        rows at the same places for all of them, or may find that readers are incompatible.
        """

    def draw(self, rows: Sequence[Row], generators: Sequence[Random], reader: Reader, *, taught: bool) -> Sequence[Row]:
        """Training rows as sampled in one epoch; by default unchanged.

        Args:
            rows: rows of `encode`.
            generators: one per row, seeded by the run, the epoch and the row; the same for every reader.
            reader: the reader of the rows.
            taught: whether a teacher computes outputs for the rows too.
        """
        del generators, reader, taught
        return rows

    @abstractmethod
    def collate(self, rows: Sequence[Row], reader: Reader) -> Batch:
        """One padded batch of encoded rows, on the CPU."""

    def pieces(self, rows: Sequence[Row], reader: Reader) -> Pieces | None:
        """The texts, or pairs of texts, to which a model's answers belong where a row has several; by default None.

        Args:
            rows: all rows of `encode` that a stage uses; pieces are asked for by their places among these.
            reader: the reader of the rows.
        """
        del rows, reader
        return None

    def hard_loss(self, features: Features, batch: Batch) -> Mapping[str, Mean]:
        """The losses of a model's outputs against the labels, by name; empty if the task has no labels.

        Each is averaged over the labelled rows or tokens. A single loss is the term `hard_labels` of a strategy, regardless
        of its name; several are `hard_labels.<name>`, and their mean is trained and evaluated.
        """
        del features, batch
        return {}

    def hard_view(self, features: Features, batch: Batch) -> View | None:
        """The tensors of a micro-batch that the hard loss compares across rows; by default None: `hard_loss` is trained.

        Entry n of the tensors of a side belongs to row n, or to the n-th of what the micro-batch has several of, such as texts.
        """
        del features, batch
        return None

    def hard_loss_across(self, view: View) -> Mapping[str, Mean]:
        """The hard loss that is trained in place of `hard_loss`, of the rows of a micro-batch or, with `across_steps`, of a step.

        Args:
            view: of `hard_view`; that of a step has the tensors of its micro-batches and processes one after another.
        """
        del view
        return {}

    def units(self, batch: Batch, masks: Mapping[str, Tensor]) -> Mapping[Unit, float]:
        """Number of each unit in a batch, from its inputs alone.

        The count of a loss is proportional to one of the units (`Mean.per`), so its share of an optimizer step is known
        before later micro-batches are computed. Reads the values of masks and labels, so the batch is on the CPU.

        Args:
            batch: of the student.
            masks: `inputs_mask` and `logits_mask`, if the student's adaptor reads them from the batch.
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
            kept = None  # one label for all positions of a row: the positions are the classes
        known = None if target is None else target != _NO_LABEL if classes else ~target.isnan()
        return {
            "rows": float(rows),
            "labels": float(positions if kept is None else kept.count_nonzero()),
            "labelled": float(rows if known is None else known.sum()),
            "tokens": float(tokens),
            "pairs": float(pairs),
        }

    def column(self, split: str, name: str) -> Sequence[Any] | None:
        """The values of a column of the rows of a split, as they are written; by default None: there are no columns."""
        del split, name
        return None

    def answered_by(self, split: str, model: str) -> Sequence[bool] | None:
        """For each row of a split whether a model has answered it; by default None: it computes its answers."""
        del split, model
        return None

    def texts(self, split: str) -> Sequence[tuple[str, ...]]:
        """The texts of each row as they are written, before anything is tokenized; by default empty: not known.

        For findings about the rows, such as test texts that stand in `train`; nothing is trained on them.
        """
        del split
        return ()

    def compared(self, split: str) -> Sequence[tuple[str, ...]]:
        """What of each row should not stand in `train` if it is a row of another split; by default its texts."""
        return self.texts(split)

    def uncut(self, split: str, rows: Sequence[int], reader: Reader) -> Sequence[int] | None:
        """The number of tokens that some encoded rows would have without a limit; by default None: not known."""
        del split, rows, reader
        return None

    def evaluator(self, split: str) -> Evaluator:
        """The evaluator of a model's outputs for a split; by default it computes only the loss.

        `validation` is asked for before anything is known of its rows: a split without rows has an evaluator too.
        """
        del split
        return LossAlone()

    def answers(self, split: str) -> RowAnswers | None:
        """How a model's outputs for the rows of a split are written, for `kdspec predict`; by default None: they are not."""
        del split
        return None

    def standalone(self, reader: Reader, module: nn.Module) -> Standalone | None:
        """How an exported model is used without kdspec; by default None: its script prints the shapes of the outputs.

        Args:
            reader: of the model, with a tokenizer.
            module: the model with the head for the task.
        """
        del reader, module
        return None

    def beside_teacher(self, split: str) -> Evaluator | None:
        """The evaluator for rows without labels, whose metrics are those of `Evaluator.beside`: a model beside its teacher.

        By default None: a split without labels has no metrics.
        """
        del split
        return None


class WrappedTask(BuiltTask):
    """A task around another one, to which it delegates whatever it does not override.

    Args:
        task: the wrapped task.
    """

    def __init__(self, task: BuiltTask) -> None:
        self.task = task
        self.head, self.length_key, self.sides = task.head, task.length_key, task.sides
        self.across_steps = task.across_steps

    def rows(self, split: str) -> int:
        """That of the wrapped task."""
        return self.task.rows(split)

    def labelled(self, split: str) -> int:
        """That of the wrapped task."""
        return self.task.labelled(split)

    def encode(self, split: str, readers: Sequence[Reader]) -> Sequence[Sequence[Row]]:
        """As the wrapped task does it."""
        return self.task.encode(split, readers)

    def draw(self, rows: Sequence[Row], generators: Sequence[Random], reader: Reader, *, taught: bool) -> Sequence[Row]:
        """As the wrapped task does it."""
        return self.task.draw(rows, generators, reader, taught=taught)

    def collate(self, rows: Sequence[Row], reader: Reader) -> Batch:
        """As the wrapped task does it."""
        return self.task.collate(rows, reader)

    def pieces(self, rows: Sequence[Row], reader: Reader) -> Pieces | None:
        """Those of the wrapped task."""
        return self.task.pieces(rows, reader)

    def hard_loss(self, features: Features, batch: Batch) -> Mapping[str, Mean]:
        """Those of the wrapped task."""
        return self.task.hard_loss(features, batch)

    def hard_view(self, features: Features, batch: Batch) -> View | None:
        """That of the wrapped task."""
        return self.task.hard_view(features, batch)

    def hard_loss_across(self, view: View) -> Mapping[str, Mean]:
        """Those of the wrapped task."""
        return self.task.hard_loss_across(view)

    def units(self, batch: Batch, masks: Mapping[str, Tensor]) -> Mapping[Unit, float]:
        """As the wrapped task counts them."""
        return self.task.units(batch, masks)

    def column(self, split: str, name: str) -> Sequence[Any] | None:
        """That of the wrapped task."""
        return self.task.column(split, name)

    def answered_by(self, split: str, model: str) -> Sequence[bool] | None:
        """As the wrapped task knows it."""
        return self.task.answered_by(split, model)

    def texts(self, split: str) -> Sequence[tuple[str, ...]]:
        """Those of the wrapped task."""
        return self.task.texts(split)

    def compared(self, split: str) -> Sequence[tuple[str, ...]]:
        """That of the wrapped task."""
        return self.task.compared(split)

    def uncut(self, split: str, rows: Sequence[int], reader: Reader) -> Sequence[int] | None:
        """As the wrapped task knows it."""
        return self.task.uncut(split, rows, reader)

    def evaluator(self, split: str) -> Evaluator:
        """That of the wrapped task."""
        return self.task.evaluator(split)

    def answers(self, split: str) -> RowAnswers | None:
        """As the wrapped task writes them."""
        return self.task.answers(split)

    def standalone(self, reader: Reader, module: nn.Module) -> Standalone | None:
        """As the wrapped task knows it."""
        return self.task.standalone(reader, module)

    def beside_teacher(self, split: str) -> Evaluator | None:
        """That of the wrapped task."""
        return self.task.beside_teacher(split)
