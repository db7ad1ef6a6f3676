"""What a model answers for rows, as values that people and the model `recorded` read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdspec.api.working.batch import Batch
    from kdspec.api.working.step import Features


class RowAnswers(ABC):
    """Writes the outputs of a model for the rows of a split, in their order, as JSON values by column."""

    reads: frozenset[str] = frozenset({"logits"})
    """The features that it requires."""
    optional: frozenset[str] = frozenset({"logits_mask"})
    """The features that it reads if the adaptor of a model has them."""
    columns: tuple[str, ...] = ("answer", "confidence", "logits")
    """The columns that it writes; with probabilities, `probabilities` in place of `logits`."""
    probable: bool = True
    """Whether the logits are those of probabilities, which may be written in their place."""

    @abstractmethod
    def of(self, batches: Iterable[tuple[Features, Batch]], *, probabilities: bool) -> Iterator[Mapping[str, Any]]:
        """The columns of each row of the data, in order; a row of the data may be several rows of `encode`.

        Args:
            batches: the features of a model, on the CPU, and the batch that it was given, for all rows of `encode` in order.
            probabilities: whether probabilities are written in place of logits.
        """

    def written(self, *, probabilities: bool) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple("probabilities" if probabilities and name == "logits" else name for name in self.columns)
