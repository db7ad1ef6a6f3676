"""Rows to batches: each row encoded once for each tokenizer of a stage, padded when it is drawn."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kdspec.engine.order import fold
from kdspec.kinds import BuiltTask

Batch = Mapping[str, Tensor]
Batches = Mapping[str, Batch]
"""The same rows for each model by its name."""


class Feed:
    """The rows of one task and split as batches, one for each model of the stage.

    Models that share a tokenizer share their batch. With `unlabelled` the rows of that split follow those of `split`.
    What a task draws for a row of an epoch is a function of `seed`, the epoch and the row; `taught` says whether a
    teacher answers for the rows.
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
        self.labelled = task.rows(split)
        self.rows = sum(task.rows(name) for name in self.splits)
        self._encoded: dict[str | None, tuple[Sequence[Mapping[str, Any]], ...]] = {}

    def batches(self, rows: Sequence[int], epoch: int | None = None) -> dict[str, Batch]:
        """The batch of these rows for each model by its name, on the CPU, where their units are counted.

        With an epoch they are as it has them, which for some tasks differs from one to the next.
        """
        made = {
            key: self.task.collate(self._drawn(key, rows, epoch), tokenizer)
            for key, tokenizer in self.tokenizer.items()
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

    def length(self, row: int) -> int:
        """How many tokens the row has for the first model: what batches of similar length are sorted by."""
        example = self._example(next(iter(self.tokenizer)), row)
        value = example.get("input_ids", ())
        return len(value) if isinstance(value, Sequence) else 0

    def _drawn(self, key: str | None, rows: Sequence[int], epoch: int | None) -> Sequence[Mapping[str, Any]]:
        examples = [self._example(key, row) for row in rows]
        draw = getattr(self.task, "draw", None)
        if draw is None or epoch is None:
            return examples
        generators = [random.Random(fold(self.seed, "draw", epoch, row)) for row in rows]  # noqa: S311 - no secrets
        drawn: Sequence[Mapping[str, Any]] = draw(examples, generators, self.tokenizer[key], self.taught)
        return drawn

    def _example(self, key: str | None, row: int) -> Mapping[str, Any]:
        if key not in self._encoded:
            tokenizer = self.tokenizer[key]
            self._encoded[key] = tuple(self.task.encode(split, tokenizer) for split in self.splits)
        parts = self._encoded[key]
        return parts[0][row] if row < self.labelled else parts[1][row - self.labelled]
