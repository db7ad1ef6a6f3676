"""Rows to batches: each row encoded once for each tokenizer of a stage, padded when it is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kdspec.kinds import BuiltTask


class Feed:
    """The rows of one task and split as batches, one for each model of the stage.

    Models that share a tokenizer share their batch. With `unlabelled` the rows of that split follow those of `split`.
    """

    def __init__(
        self,
        task: BuiltTask,
        split: str,
        tokenizers: Mapping[str, tuple[str | None, Any]],
        *,
        unlabelled: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.task, self.split, self.device = task, split, torch.device(device)
        self.key_of = {model: key for model, (key, _) in tokenizers.items()}
        self.tokenizer = dict(tokenizers.values())
        self.splits = (split, "unlabelled") if unlabelled and task.rows("unlabelled") else (split,)
        self.labelled = task.rows(split)
        self.rows = sum(task.rows(name) for name in self.splits)
        self._encoded: dict[str | None, tuple[Sequence[Mapping[str, Any]], ...]] = {}

    def batches(self, rows: Sequence[int]) -> dict[str, dict[str, Tensor]]:
        """The batch of these rows for each model by its name, on the device."""
        made: dict[str | None, dict[str, Tensor]] = {}
        for key in self.tokenizer:
            examples = [self._example(key, row) for row in rows]
            batch = self.task.collate(examples, self.tokenizer[key])
            made[key] = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        return {model: made[key] for model, key in self.key_of.items()}

    def length(self, row: int) -> int:
        """How many tokens the row has for the first model: what batches of similar length are sorted by."""
        example = self._example(next(iter(self.tokenizer)), row)
        value = example.get("input_ids", ())
        return len(value) if isinstance(value, Sequence) else 0

    def _example(self, key: str | None, row: int) -> Mapping[str, Any]:
        if key not in self._encoded:
            tokenizer = self.tokenizer[key]
            self._encoded[key] = tuple(self.task.encode(split, tokenizer) for split in self.splits)
        parts = self._encoded[key]
        return parts[0][row] if row < self.labelled else parts[1][row - self.labelled]
