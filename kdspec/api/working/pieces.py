"""What a model's answers belong to where that is less than a row: single texts, or pairs of texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.working.batch import Batch


class Pieces(ABC):
    """The texts of some rows, or their pairs of texts, for the models of one reader, by number from 0.

    A frozen model answers each piece once, however many rows name it: a cache keeps the answers by the content of the piece,
    and the model puts those of a row together (`PutsTogether`).
    """

    @property
    @abstractmethod
    def lengths(self) -> Sequence[int]:
        """The number of tokens of each piece."""

    @abstractmethod
    def of(self, rows: Sequence[int]) -> Sequence[int]:
        """The pieces that a batch of these rows has, in the order in which its inputs have them, field by field."""

    @abstractmethod
    def batch(self, pieces: Sequence[int]) -> Batch:
        """A padded batch of pieces, on the CPU: their tokens, and nothing of rows."""


@runtime_checkable
class PutsTogether(Protocol):
    """A module that answers pieces alone: given their tokens, its output has `answers`, one entry for each piece."""

    def put_together(self, answers: Tensor, mask: Tensor | None, **inputs: Any) -> Any:
        """The output for a batch of rows, as `forward` returns it, as far as it is made of answers.

        Args:
            answers: of the batch's pieces, in their order: `(pieces, ...)`; for an answer with an entry for each token
                `(pieces, length, ...)`, tokens first and zeros behind them.
            mask: which entries are of tokens, `(pieces, length)`; None for answers without an axis of tokens.
            inputs: as for `forward`.
        """
