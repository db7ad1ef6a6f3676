"""Batches, losses and metrics of a built task, without an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from kdspec import Batch, BuiltTask, Evaluator, Features, Mean, Reader, State
from kdspec.data.confidence import METRICS


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
    """The metrics of the answers of each batch, which is given whole or by its labels; without those of confidence."""
    return {name: value for name, value in all_metrics_of(task, logits, batches, split).items() if name not in METRICS}


def all_metrics_of(
    task: BuiltTask, logits: Sequence[Any], batches: Sequence[Tensor | Batch], split: str = "train"
) -> dict[str, float]:
    """All metrics of the logits of each batch."""
    evaluator = task.evaluator(split)
    return dict(evaluator.merge(states_of(evaluator, logits, batches)))


def agreement_of(
    task: BuiltTask,
    mine: Sequence[Any],
    theirs: Sequence[Any],
    batches: Sequence[Tensor | Batch],
    split: str = "train",
) -> float | None:
    """The agreement of two models, from their logits of each batch."""
    evaluator = task.evaluator(split)
    return evaluator.agreement(states_of(evaluator, mine, batches), states_of(evaluator, theirs, batches))


def states_of(evaluator: Evaluator, logits: Sequence[Any], batches: Sequence[Tensor | Batch]) -> list[State]:
    """The states of the logits of each batch, which is given whole or by its labels."""
    states, start = [], 0
    for said, given in zip(logits, batches, strict=True):
        count = len(given.rows) if isinstance(given, Batch) else len(given)
        rows = range(start, start + count)
        batch = replace(given, rows=rows) if isinstance(given, Batch) else Batch(inputs={}, rows=rows)
        labels = {} if isinstance(given, Batch) else {"labels": given}
        if state := evaluator.add(Features({"logits": said, **labels}), batch):
            states.append(state)
        start += count
    return states
