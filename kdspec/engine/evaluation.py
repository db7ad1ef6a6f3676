"""How good a model is: the task's metrics on a split, agreement with a teacher, speed and size."""

from __future__ import annotations

import statistics
import time
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
    rows: tuple[int, ...]
    """The row numbers in the order of the batches, which follows the lengths that this model's tokenizer gives."""
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
            features = forward(feed.on_device(forward.name, rows))
            logits += [head.float().cpu() for head in features.heads("logits")[:1]]
            labels += [head.cpu() for head in features.heads("labels")[:1]]
            losses += _loss(task, features, len(rows))
    metrics = dict(task.metrics(logits, labels)) if logits and labels else {}
    if losses and (count := sum(float(loss.count) for loss in losses)):
        metrics["loss"] = sum(float(loss.total) for loss in losses) / count
    return Outcome(metrics, tuple(order), tuple(logits), tuple(labels))


def _loss(task: BuiltTask, features: Features, rows: int) -> list[Mean]:
    own = features.heads("losses")
    if own:
        return [Mean(loss.detach().double().mean().cpu() * rows, float(rows)) for loss in own]
    pairs = zip(features.heads("logits"), features.heads("labels"), strict=False)
    return [task.loss(logits.detach().double().cpu(), labels.cpu()) for logits, labels in pairs]


def agreement(first: Outcome, second: Outcome) -> float | None:
    """The part of rows for which both models choose the same class, or None where they do not choose of the same."""
    classes, others = _by_row(first), _by_row(second)
    if classes is None or others is None or classes.shape != others.shape:
        return None
    return float((classes.argmax(-1) == others.argmax(-1)).double().mean())


def _by_row(outcome: Outcome) -> Tensor | None:
    """The logits `(rows, classes)` by row number, or None where they are not of rows with classes to choose from."""
    # Logits of tokens depend on the padding; a single value is no choice.
    if not outcome.logits or any(part.ndim != 2 or part.shape[1] < 2 for part in outcome.logits):
        return None
    logits = torch.cat(outcome.logits)
    return logits[torch.argsort(torch.tensor(outcome.rows))] if len(logits) == len(outcome.rows) else None


def latency(forward: Forward, feed: Feed, runs: int = 30) -> float:
    """The median time of one row in seconds: batch size 1, rows of middling length, as the machine is now."""
    rows = sorted(range(min(feed.rows, 200)), key=feed.length)
    middle = rows[len(rows) // 2]
    batch = feed.on_device(forward.name, [middle])
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
