"""Rows to batches: each row encoded once for each tokenizer of a stage, padded when it is drawn."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence, Sized
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdspec.api.task import BuiltTask
from kdspec.engine.batches.columnar import Packed, packed
from kdspec.engine.batches.sampler import fold

Batch = Mapping[str, Tensor]
Batches = Mapping[str, Batch]
"""The same rows for each model by its name."""


class Loader:
    """The rows of one task and split as batches, one for each model of the stage.

    Models that share a tokenizer share their batch. With `unlabelled` the rows of that split follow those of `split`.
    What a task draws for a row of an epoch is a function of `seed`, the epoch and the row; `taught` says whether a
    teacher answers for the rows.
    What counts as a row is what the task encodes as one: a long text may be several.
    """

    def __init__(
        self,
        task: BuiltTask,
        split: str,
        tokenizers: Mapping[str, tuple[str | None, Any]],
        *,
        unlabelled: bool = False,
        seed: int = 0,
        taught: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.task, self.split, self.device = task, split, torch.device(device)
        self.seed, self.taught = seed, taught
        self.key_of = {model: key for model, (key, _) in tokenizers.items()}
        self.tokenizer = dict(tokenizers.values())
        self.splits = (split, "unlabelled") if unlabelled and task.rows("unlabelled") else (split,)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(map(len, self._encoded[next(iter(self.tokenizer))]))

    def batches(self, rows: Sequence[int], epoch: int | None = None) -> dict[str, Batch]:
        """The batch of these rows for each model by its name, on the CPU, where their units are counted.

        With an epoch they are as it has them, which for some tasks differs from one to the next.
        """
        made = {
            key: self.task.collate(self._drawn(model, rows, epoch), self.tokenizer[key])
            for key, model in {key: model for model, key in self.key_of.items()}.items()
        }
        return {model: made[key] for model, key in self.key_of.items()}

    def to_device(self, batches: Batches) -> Batches:
        """The batches on the device of the models, each once."""
        if self.device.type == "cpu":
            return batches
        moved: dict[int, Batch] = {}
        for batch in batches.values():
            if id(batch) not in moved:
                moved[id(batch)] = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        return {model: moved[id(batch)] for model, batch in batches.items()}

    def on_device(self, model: str, rows: Sequence[int]) -> Batch:
        """The batch of these rows for one model, on its device."""
        return self.to_device(self.batches(rows))[model]

    def batch(self, model: str, rows: Sequence[int]) -> Batch:
        """The batch of these rows for one model, on the CPU."""
        return self.task.collate([self.example(model, row) for row in rows], self.tokenizer[self.key_of[model]])

    def example(self, model: str, row: int) -> Mapping[str, Any]:
        """The row as the task has encoded it for the model."""
        parts = self._encoded[self.key_of[model]]
        first = len(parts[0])
        return parts[0][row] if row < first else parts[1][row - first]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """How many tokens each row has for the first model, by its `input_ids`: 0 for rows without."""
        return np.concatenate([_lengths(part) for part in self._encoded[next(iter(self.tokenizer))]])

    def _drawn(self, model: str, rows: Sequence[int], epoch: int | None) -> Sequence[Mapping[str, Any]]:
        examples = [self.example(model, row) for row in rows]
        draw = getattr(self.task, "draw", None)
        if draw is None or epoch is None:
            return examples
        generators = [random.Random(fold(self.seed, "draw", epoch, row)) for row in rows]  # noqa: S311 - no secrets
        tokenizer = self.tokenizer[self.key_of[model]]
        drawn: Sequence[Mapping[str, Any]] = draw(examples, generators, tokenizer, taught=self.taught)
        return drawn

    @cached_property
    def _encoded(self) -> Mapping[str | None, Sequence[Sequence[Mapping[str, Any]]]]:
        """The rows of each split for each tokenizer."""
        splits = [self._encode(split) for split in self.splits]
        return {key: [split[key] for split in splits] for key in self.tokenizer}

    def _encode(self, split: str) -> dict[str | None, Sequence[Mapping[str, Any]]]:
        together = getattr(self.task, "encode_together", None) if len(self.tokenizer) > 1 else None
        if together is None:
            return {key: packed(self.task.encode(split, tokenizer)) for key, tokenizer in self.tokenizer.items()}
        made = together(split, list(self.tokenizer.values()))
        return dict(zip(self.tokenizer, map(packed, made), strict=True))


def _lengths(examples: Sequence[Mapping[str, Any]]) -> NDArray[np.int64]:
    known = examples.lengths("input_ids") if isinstance(examples, Packed) else None
    if known is not None:
        return known
    tokens = (example.get("input_ids", ()) for example in examples)
    return np.array([len(ids) if isinstance(ids, Sized) else 0 for ids in tokens], dtype=np.int64)
