"""The texts of rows, or their pairs of query and document, which a frozen teacher answers one by one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from kdspec.api.working.batch import Batch
from kdspec.api.working.pieces import Pieces
from kdspec.api.working.task import Row
from kdspec.data import texts

Tokens = Mapping[str, list[int]]
"""The tokens of a text or pair, by the name of the input."""


class TextPieces(Pieces):
    """The distinct queries, and behind them the distinct documents.

    Args:
        rows: rows with numbers of texts in each field.
        tokens: the tokens of the texts of each field, by number; fields in the order of a batch.
        tokenizer: pads them.
    """

    def __init__(self, rows: Sequence[Row], tokens: Mapping[str, Mapping[int, Tokens]], tokenizer: Any) -> None:
        self._rows, self._tokenizer = rows, tokenizer
        self._tokens: list[Tokens] = []
        self._places: dict[str, dict[int, int]] = {}
        for field, table in tokens.items():
            named = dict.fromkeys(number for row in rows for number in row[field])
            self._places[field] = {number: len(self._tokens) + place for place, number in enumerate(named)}
            self._tokens += [table[number] for number in named]

    @property
    def lengths(self) -> Sequence[int]:
        """The number of tokens of each text."""
        return [len(tokens["input_ids"]) for tokens in self._tokens]

    def of(self, rows: Sequence[int]) -> Sequence[int]:
        """The distinct texts of each field, as a batch has them."""
        chosen = [self._rows[row] for row in rows]
        return [
            places[number]
            for field, places in self._places.items()
            for number in dict.fromkeys(number for row in chosen for number in row[field])
        ]

    def batch(self, pieces: Sequence[int]) -> Batch:
        """Texts as a batch."""
        return Batch(inputs={"": texts.collate([self._tokens[piece] for piece in pieces], self._tokenizer)})


class PairPieces(Pieces):
    """Each query with each of its documents, row by row.

    Args:
        rows: rows with the tokens of their pairs one after another.
        parts: the pairs of a row.
        tokenizer: pads them.
    """

    def __init__(self, rows: Sequence[Row], parts: Callable[[Row], Iterable[Tokens]], tokenizer: Any) -> None:
        self._rows, self._parts, self._tokenizer = rows, parts, tokenizer
        lengths = [list(row["lengths"]) for row in rows]
        self._lengths = [length for of_row in lengths for length in of_row]
        self._starts = [0, *accumulate(map(len, lengths))]

    @property
    def lengths(self) -> Sequence[int]:
        """The number of tokens of each pair."""
        return self._lengths

    def of(self, rows: Sequence[int]) -> Sequence[int]:
        """The pairs of each row."""
        return [pair for row in rows for pair in range(self._starts[row], self._starts[row + 1])]

    def batch(self, pieces: Sequence[int]) -> Batch:
        """Pairs as a batch."""
        rows = [bisect_right(self._starts, piece) - 1 for piece in pieces]
        of_row = {row: list(self._parts(self._rows[row])) for row in dict.fromkeys(rows)}
        found = [of_row[row][piece - self._starts[row]] for row, piece in zip(rows, pieces, strict=True)]
        return Batch(inputs={"": texts.collate(found, self._tokenizer)})
