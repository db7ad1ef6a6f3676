"""Stands in for the models of a run where a task makes its rows with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from kdspec import BuiltTask, Features, Reader, State


@dataclass
class OneModel:
    """A module with outputs by name, run in batches of `at_once` rows in the order of their numbers or in the reverse one."""

    module: Any
    tokenizer: Any
    at_once: int = 3
    backwards: bool = False
    name: str = "teacher"
    asked: list[str] = field(default_factory=list)

    def digest(self, model: str) -> str:
        assert model == self.name
        return f"{sorted((key, value.sum().item()) for key, value in self.module.state_dict().items())}"

    def states(self, model: str, rows: BuiltTask) -> Sequence[State]:
        self.asked.append(model)
        return states(
            self.module, rows, "validation", Reader(self.tokenizer, "each"), self.at_once, backwards=self.backwards
        )

    def agreed(self, value: Any) -> Any:
        return value


def states(
    module: Any, task: BuiltTask, split: str, reader: Reader, at_once: int = 3, *, backwards: bool = False
) -> list[State]:
    """What the evaluator of a split keeps of a module."""
    (encoded,) = task.encode(split, [reader])
    evaluator = task.evaluator(split)
    order = list(range(len(encoded)))[:: -1 if backwards else 1]
    found = []
    for start in range(0, len(order), at_once):
        rows = order[start : start + at_once]
        batch = replace(task.collate([encoded[row] for row in rows], reader), rows=rows)
        named = {name: tensors for name, tensors in batch.inputs.items() if name}
        with torch.no_grad():
            own = {name: tensor for name, tensor in batch.inputs[""].items() if name != "token_type_ids"}
            output = module(**own, **named)
        if state := evaluator.add(Features(output), batch):
            found.append(state)
    return found
