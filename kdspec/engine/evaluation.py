"""How good a model is: the task's metrics on a split, agreement with a teacher, speed and size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdspec.engine.feed import Feed
from kdspec.engine.forward import Forward, frozen
from kdspec.engine.order import isolated_random
from kdspec.kinds import BuiltTask
from kdspec.ops.mean import Mean
from kdspec.step import Features


@dataclass(frozen=True)
class Outcome:
    """A model's answers for a split, on the CPU, and what they are worth."""

    metrics: dict[str, float]
    logits: tuple[Tensor, ...]
    """One tensor a batch, rows in the order of the batches; empty where the model gives no logits."""
    labels: tuple[Tensor, ...]


def evaluate(forward: Forward, task: BuiltTask, feed: Feed, batch_size: int) -> Outcome:
    """The metrics of one model on the feed's split, and its loss where that can be computed.

    Rows are taken by length, so that batches have little padding; neither the result nor training depends on it.
    """
    order = sorted(range(feed.rows), key=feed.length)
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    losses: list[Mean] = []
    with isolated_random(), frozen(forward.module):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            features = forward(feed.batches(rows)[forward.name])
            logits += [head.float().cpu() for head in features.heads("logits")[:1]]
            labels += [head.cpu() for head in features.heads("labels")[:1]]
            losses += _loss(task, features, len(rows))
    metrics = dict(task.metrics(logits, labels)) if logits and labels else {}
    if losses and (count := sum(float(loss.count) for loss in losses)):
        metrics["loss"] = sum(float(loss.total) for loss in losses) / count
    return Outcome(metrics, tuple(logits), tuple(labels))


def _loss(task: BuiltTask, features: Features, rows: int) -> list[Mean]:
    own = features.heads("losses")
    if own:
        return [Mean(loss.detach().double().mean().cpu() * rows, float(rows)) for loss in own]
    pairs = zip(features.heads("logits"), features.heads("labels"), strict=False)
    return [task.loss(logits.detach().double().cpu(), labels.cpu()) for logits, labels in pairs]


def agreement(first: Sequence[Tensor], second: Sequence[Tensor]) -> float | None:
    """The part of rows for which both models choose the same class, or None where they cannot be compared."""
    if not first or len(first) != len(second) or any(a.shape != b.shape for a, b in zip(first, second, strict=True)):
        return None
    if first[0].ndim != 2:  # rows of classes; anything longer depends on the padding
        return None
    same = sum(int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in zip(first, second, strict=True))
    return same / sum(a.shape[0] for a in first)


def latency(forward: Forward, feed: Feed, runs: int = 30) -> float:
    """The median time of one row in seconds: batch size 1, rows of middling length, as the machine is now."""
    rows = sorted(range(min(feed.rows, 200)), key=feed.length)
    middle = rows[len(rows) // 2]
    batch = feed.batches([middle])[forward.name]
    times = []
    with isolated_random(), frozen(forward.module):
        for _ in range(3):
            forward(batch)
        for _ in range(runs):
            began = time.perf_counter()
            forward(batch)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
    return statistics.median(times)
