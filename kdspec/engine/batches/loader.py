"""Turns rows into batches: each row is encoded once for each reader of a stage, and padded when it is read."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence, Sized
from dataclasses import replace
from functools import cached_property
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray

from kdspec.api.working.batch import Batch
from kdspec.api.working.pieces import Pieces
from kdspec.api.working.task import BuiltTask, Reader, Row
from kdspec.engine.batches.columnar import Packed, first_difference, packed
from kdspec.engine.batches.sampler import fold

_COMPARED = 2_000
"""Rows whose tokens are compared one by one, where a task does not return plain lists."""

Batches = Mapping[str, Batch]
"""The same rows for each model by its name; models with equal readers share one batch."""


class Loader:
    """The rows of one task and split as batches, one for each reader among the models of a stage.

    With `unlabelled` the rows of that split follow those of `split`. The random values of a task, such as an augmentation,
    are a function of `seed`, the epoch and the row; `taught` is whether teachers give outputs for the rows.
    A row is what the task encodes as one: a long text may be several rows.
    """

    def __init__(
        self,
        task: BuiltTask,
        split: str,
        readers: Mapping[str, Reader],
        *,
        unlabelled: bool = False,
        seed: int = 0,
        taught: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.task, self.split, self.device = task, split, torch.device(device)
        self.seed, self.taught = seed, taught
        self.readers = dict(readers)
        self.splits = (split, "unlabelled") if unlabelled and task.rows("unlabelled") else (split,)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(map(len, self._encoded[self._first]))

    def batches(self, rows: Sequence[int], epoch: int | None = None) -> dict[str, Batch]:
        """The batch of these rows for each model by its name, on the CPU.

        With an epoch, the random values of that epoch are used, if the task has some.
        """
        made = {
            reader: self._collated(self._sampled(reader, rows, epoch), reader, rows)
            for reader in dict.fromkeys(self.readers.values())
        }
        return {model: made[reader] for model, reader in self.readers.items()}

    def encoded(self, model: str) -> dict[str, Sequence[Row]]:
        """The encoded rows of each split for one of the models."""
        return dict(zip(self.splits, self._encoded[self.readers[model]], strict=True))

    def to_device(self, batches: Batches) -> Batches:
        """The batches on the device of the models, each once."""
        if self.device.type == "cpu":
            return batches
        moved = {id(batch): batch.to(self.device) for batch in {id(each): each for each in batches.values()}.values()}
        return {model: moved[id(batch)] for model, batch in batches.items()}

    def on_device(self, model: str, rows: Sequence[int]) -> Batch:
        """The batch of these rows for one model, on its device."""
        batch = self.batch(model, rows)
        return batch if self.device.type == "cpu" else batch.to(self.device)

    def batch(self, model: str, rows: Sequence[int]) -> Batch:
        """The batch of these rows for one model, on the CPU."""
        reader = self.readers[model]
        return self._collated(self._rows(reader, rows), reader, rows)

    def pieces(self, model: str) -> Pieces | None:
        """The texts of the rows, or the pairs of them, to which a model's answers belong; None if that is the row."""
        reader = self.readers[model]
        return self.task.pieces(_Joined(self._encoded[reader]), reader)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each row for the first model, by the task's `length_key`; 0 without."""
        return self._lengths(self._first)

    def lengths_for(self, model: str) -> NDArray[np.int64]:
        """The number of tokens of each row for one of the models."""
        return self._lengths(self.readers[model])

    def other_tokens(self, model: str, other: str) -> int | None:
        """The first row of which two models have other tokens, or tokens at other places; None for none."""
        reads, also = self.readers[model], self.readers[other]
        if reads == also or reads.tokenizer is None or also.tokenizer is None:
            return None
        if reads.tokenizer.padding_side != also.tokenizer.padding_side:
            return 0
        before = 0
        for one, two in zip(self._encoded[reads], self._encoded[also], strict=True):
            found = first_difference(one, two, self.task.length_key, _COMPARED)
            if found is not None:
                return before + found
            before += len(one)
        return None

    @property
    def _first(self) -> Reader:
        return next(iter(self.readers.values()))

    def _lengths(self, reader: Reader) -> NDArray[np.int64]:
        return np.concatenate([_lengths(part, self.task.length_key) for part in self._encoded[reader]])

    def _rows(self, reader: Reader, rows: Sequence[int]) -> list[Row]:
        """The encoded rows."""
        parts = self._encoded[reader]
        first = len(parts[0])
        if isinstance(parts[0], Packed) and all(row < first for row in rows):
            return list(parts[0].take(rows))
        return [parts[0][row] if row < first else parts[1][row - first] for row in rows]

    def _sampled(self, reader: Reader, rows: Sequence[int], epoch: int | None) -> Sequence[Row]:
        encoded = self._rows(reader, rows)
        if epoch is None:
            return encoded
        return self.task.draw(encoded, _Generators(self.seed, epoch, rows), reader, taught=self.taught)

    def _collated(self, encoded: Sequence[Row], reader: Reader, rows: Sequence[int]) -> Batch:
        return replace(self.task.collate(encoded, reader), rows=tuple(rows), encoded=encoded)

    @cached_property
    def _encoded(self) -> Mapping[Reader, Sequence[Sequence[Row]]]:
        """The rows of each split for each reader."""
        readers = list(dict.fromkeys(self.readers.values()))
        splits = [[packed(rows) for rows in self.task.encode(split, readers)] for split in self.splits]
        return {reader: [split[number] for split in splits] for number, reader in enumerate(readers)}


class _Generators(Sequence[random.Random]):
    """A generator for each row of an epoch, created on access: most tasks use none."""

    def __init__(self, seed: int, epoch: int, rows: Sequence[int]) -> None:
        self._seed, self._epoch, self._rows = seed, epoch, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> random.Random: ...
    @overload
    def __getitem__(self, index: slice) -> list[random.Random]: ...
    def __getitem__(self, index: int | slice) -> random.Random | list[random.Random]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return random.Random(fold(self._seed, "draw", self._epoch, self._rows[index]))  # noqa: S311 - no secrets


class _Joined(Sequence[Row]):
    """The rows of all splits, one after another."""

    def __init__(self, parts: Sequence[Sequence[Row]]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        for part in self._parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError(index)


def _lengths(encoded: Sequence[Row], key: str) -> NDArray[np.int64]:
    known = encoded.lengths(key) if isinstance(encoded, Packed) else None
    if known is not None:
        return known
    values = (row.get(key, ()) for row in encoded)
    return np.array([len(value) if isinstance(value, Sized) else 0 for value in values], dtype=np.int64)
