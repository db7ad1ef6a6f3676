"""The tokens of encoded rows, as flat arrays; of the texts of a row, where it has several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdspec.api.working.pieces import Pieces
from kdspec.api.working.task import BuiltTask, Reader, Row
from kdspec.engine.batches.columnar import Packed
from kdspec.engine.preflight.encoded_values import Flat, flat

_MOST = 2_000
"""Rows or texts that are read one by one."""


@dataclass(frozen=True)
class TokenValues:
    """The tokens of rows, or of texts or pairs of texts of which a model reads each alone."""

    flat: Flat
    """Of texts only some have their tokens here: the shortest, the longest, and some others."""
    longest: int
    """The number of tokens of the longest."""
    longest_row: int
    """The row with it."""
    numbers: NDArray[np.int64]
    """The row of each entry of `flat`."""


def token_values(task: BuiltTask, rows: Sequence[Row], reader: Reader) -> TokenValues | None:
    """The tokens that a reader has of rows; None if that is not known, or it has none."""
    if reader.tokenizer is None or not len(rows):
        return None
    pieces = task.pieces(rows, reader)
    if pieces is not None:
        return _of_pieces(pieces, len(rows))
    values = flat(rows if isinstance(rows, Packed) else rows[:_MOST], task.length_key)
    if values is None:
        return None
    longest = int(values[1].argmax())
    return TokenValues(values, int(values[1][longest]), longest, np.arange(len(values[1])))


def of_first_row(task: BuiltTask, row: Row, reader: Reader) -> list[int]:
    """The tokens of a row; those of its texts one after another."""
    found = token_values(task, [row], reader)
    return [] if found is None else [int(number) for number in found.flat[0]]


def _of_pieces(pieces: Pieces, rows: int) -> TokenValues | None:
    lengths = np.asarray(pieces.lengths)
    if not len(lengths):
        return None
    order = np.argsort(lengths, kind="stable")
    chosen = np.sort(order[np.unique(np.linspace(0, len(order) - 1, _MOST).astype(int))]).tolist()
    # One by one, so that none is padded.
    parts: list[NDArray[Any]] = [pieces.batch([each]).inputs[""]["input_ids"].reshape(-1).numpy() for each in chosen]
    values = np.concatenate(parts), np.array([len(part) for part in parts], dtype=np.int64)
    of_piece: dict[int, int] = {}
    for row in range(rows):
        for piece in pieces.of([row]):
            of_piece.setdefault(piece, row)
    longest = int(lengths.argmax())
    numbers = np.array([of_piece[piece] for piece in chosen], dtype=np.int64)
    return TokenValues(values, int(lengths[longest]), of_piece[longest], numbers)
