"""What a teacher answers one by one: the rows of a stage, or the texts or pairs of texts of which rows are made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kdspec.api.working.batch import Batch
from kdspec.api.working.pieces import Pieces
from kdspec.engine.batches.loader import Loader

_ROWS = 64
"""Rows in which the pieces of a row are counted."""


class Answered(ABC):
    """What a cache keeps answers for, by number from 0.

    Args:
        loader: the rows.
    """

    def __init__(self, loader: Loader) -> None:
        self.rows = loader.rows
        """The number of rows."""

    @property
    @abstractmethod
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each; 0 where there are none."""

    @property
    def uses(self) -> float:
        """How often an epoch asks for each, on average, if every row of it is a batch of its own."""
        return 1.0

    @abstractmethod
    def of(self, rows: Sequence[int]) -> NDArray[np.int64]:
        """The numbers that a batch of these rows has."""

    @abstractmethod
    def batch(self, numbers: Sequence[int]) -> Batch:
        """A batch of them, on the CPU."""


class AnsweredRows(Answered):
    """Rows, each of which a teacher answers as a whole.

    Args:
        loader: the rows.
        model: the teacher's name.
    """

    def __init__(self, loader: Loader, model: str) -> None:
        super().__init__(loader)
        self._loader, self._model = loader, model

    @property
    def lengths(self) -> NDArray[np.int64]:
        """As the loader has them."""
        return self._loader.lengths_for(self._model)

    def of(self, rows: Sequence[int]) -> NDArray[np.int64]:
        """The rows."""
        return np.asarray(rows, np.int64)

    def batch(self, numbers: Sequence[int]) -> Batch:
        """The rows as a batch."""
        return self._loader.batch(self._model, numbers)


class AnsweredPieces(Answered):
    """Pieces of rows.

    Args:
        loader: the rows.
        pieces: what a row has several of.
    """

    def __init__(self, loader: Loader, pieces: Pieces) -> None:
        super().__init__(loader)
        self._pieces = pieces
        self._lengths = np.asarray(pieces.lengths, np.int64)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The tokens of each piece."""
        return self._lengths

    @property
    def uses(self) -> float:
        """Counted in some rows."""
        rows = np.unique(np.linspace(0, self.rows - 1, _ROWS).astype(int)).tolist()
        named = sum(len(self._pieces.of([row])) for row in rows) / len(rows)
        return named * self.rows / len(self._lengths)

    def of(self, rows: Sequence[int]) -> NDArray[np.int64]:
        """Their pieces, in the order in which a batch has them."""
        return np.asarray(self._pieces.of(rows), np.int64)

    def batch(self, numbers: Sequence[int]) -> Batch:
        """Pieces as a batch."""
        return self._pieces.batch(numbers)
