"""Batches, losses and metrics of a built task, without an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from kdspec import Batch, BuiltTask, Features, Mean, Reader


def encoded(task: BuiltTask, split: str, tokenizer: Any = None) -> Sequence[Mapping[str, Any]]:
    """The rows of a split for one tokenizer."""
    (rows,) = task.encode(split, [Reader(tokenizer)])
    return rows


def batch_of(task: BuiltTask, rows: Sequence[Mapping[str, Any]], tokenizer: Any = None) -> Batch:
    """A batch of encoded rows, as the engine completes it."""
    return replace(task.collate(rows, Reader(tokenizer)), rows=range(len(rows)), encoded=rows)


def loss_of(task: BuiltTask, logits: Tensor, labels: Tensor) -> Mean:
    """The hard loss of one head."""
    (loss,) = task.hard_loss(Features({"logits": logits, "labels": labels}), Batch(inputs={})).values()
    return loss


def metrics_of(
    task: BuiltTask, logits: Sequence[Any], batches: Sequence[Tensor | Batch], split: str = "train"
) -> dict[str, float]:
    """The metrics of the logits of each batch, which is given whole or by its labels."""
    evaluator = task.evaluator(split)
    states = []
    for said, given in zip(logits, batches, strict=True):
        batch = given if isinstance(given, Batch) else Batch(inputs={}, rows=range(len(given)))
        labels = {} if isinstance(given, Batch) else {"labels": given}
        if state := evaluator.add(Features({"logits": said, **labels}), batch):
            states.append(state)
    return dict(evaluator.merge(states))
