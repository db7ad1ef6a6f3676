"""A task at work: the head that it asks for, its rows, and what a model's outputs for them are worth."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.answers import Answers
    from kdspec.ops.mean import Mean


@dataclass(frozen=True)
class Head:
    """What a task asks of the model that learns it."""

    kind: str | None = None
    """What the head is for, such as `sequence_classification`: by it a transformers model chooses its auto class. None
    asks for the bare model."""
    labels: tuple[str, ...] = ()
    """The label names in the order of the logits; empty where the task has none."""


class BuiltTask(Protocol):
    """A task with its rows. Row numbers of a split are stable: they are what the data order is made of.

    It may also have `draw(examples, generators, tokenizer, *, taught)`, for training rows that differ from epoch to epoch:
    examples of `encode` as this epoch has them. The generators, one `random.Random` a row, are seeded by the run, the
    epoch and the row, and alike for every tokenizer; `taught` says whether a teacher answers for the rows too.
    And it may have `condense(logits, labels) -> (logits, labels)`, what `metrics` needs of a batch in evaluation, where
    the logits of a whole split would be too many to keep; `metrics` then gives the `loss` too. And `encode_together(split, tokenizers) -> list`, called in
    place of `encode` where the models of a stage have several tokenizers: what `encode` gives for each of them, row n being the same part of the data.
    """

    head: Head
    metric: str | None
    """The metric by which the best student is chosen, or None to choose by the loss."""
    lower_is_better: Collection[str]
    """The metrics of which less is better, beside `loss`."""
    label_keys: frozenset[str]
    """Keys of a batch that hold labels. A model is not given these, but where its own loss is read."""

    def rows(self, split: str) -> int:
        """How many rows the split (`train`, `validation`, `test`, `unlabelled`) has, 0 where there is none.

        `encode` may cut a long one into several, which then have numbers of their own.
        """
        ...

    def encode(self, split: str, tokenizer: Any | None) -> Sequence[Mapping[str, Any]]:
        """The split's rows as model inputs made by `tokenizer`, without padding, by row number."""
        ...

    def collate(self, examples: Sequence[Mapping[str, Any]], tokenizer: Any | None) -> dict[str, Tensor]:
        """One padded batch of tensors; `labels` among them where the task has labels."""
        ...

    def loss(self, logits: Tensor, labels: Tensor) -> Mean:
        """The hard-label loss, averaged over the labelled rows or tokens."""
        ...

    def metrics(self, answers: Answers) -> dict[str, float]:
        """The task's metrics from the answers to a whole split, or to some of its rows."""
        ...
