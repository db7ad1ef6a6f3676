"""How good a model is: the task's metrics on a split, agreement with a teacher, speed and size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from kdspec.engine.feed import Feed
from kdspec.engine.forward import Forward, frozen
from kdspec.engine.normalization import count
from kdspec.engine.order import isolated_random
from kdspec.kinds import BuiltTask, Logits
from kdspec.ops.mean import Mean
from kdspec.step import Features


@dataclass(frozen=True)
class Outcome:
    """A model's answers for a split, on the CPU, and what they are worth."""

    metrics: dict[str, float]
    rows: tuple[int, ...]
    """The row numbers in the order of the batches, which follows the lengths that this model's tokenizer gives."""
    logits: tuple[Tensor, ...]
    """One tensor a batch, rows in the order of the batches; empty where the model gives no logits.
    Where a task condenses its logits, what is left of them."""
    labels: tuple[Tensor, ...]


def evaluate(
    forward: Forward, task: BuiltTask, feed: Feed, batch_size: int, rows: Iterable[int] | None = None
) -> Outcome:
    """The metrics of one model on the feed's split, or on some rows of it, and its loss where that can be computed.

    Rows are taken by length, so that batches have little padding; neither the result nor training depends on it.
    """
    order = sorted(range(feed.rows) if rows is None else rows, key=feed.length)
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    losses: list[Mean] = []
    condense = getattr(task, "condense", None)
    with isolated_random(), frozen(forward.module):
        for start in range(0, len(order), batch_size):
            batch = feed.on_device(forward.name, order[start : start + batch_size])
            features = forward(batch)
            said, truth = features.heads("logits")[:1], features.heads("labels")[:1]
            if condense is not None and said and truth:
                said, truth = ((value,) for value in condense(said[0], truth[0]))
            logits += [head.float().cpu() for head in said]
            labels += [head.cpu() for head in truth]
            losses += _loss(task, features, count(batch, {}, task.label_keys)["labelled"])
    metrics = dict(task.metrics(logits, labels)) if logits and labels else {}
    if losses and (labelled := sum(float(loss.count) for loss in losses)):
        metrics["loss"] = sum(float(loss.total) for loss in losses) / labelled
    return Outcome(metrics, tuple(order), tuple(logits), tuple(labels))


def _loss(task: BuiltTask, features: Features, labelled: float) -> list[Mean]:
    own = features.heads("losses")
    if own:  # of a batch without labels it is NaN
        return [Mean(loss.detach().double().mean().cpu() * labelled, labelled) for loss in own if labelled]
    pairs = zip(features.heads("logits"), features.heads("labels"), strict=False)
    return [task.loss(logits.detach().double().cpu(), labels.cpu()) for logits, labels in pairs]


def agreement(first: Outcome, second: Outcome, logits: Logits | None = "classes") -> float | None:
    """The part of rows for which both models choose the same class, or None where they do not choose of the same.

    Where each label of a row holds or does not, the part of these decisions that are the same.
    """
    mine, theirs = _by_row(first), _by_row(second)
    if mine is None or theirs is None or mine.shape != theirs.shape or logits == "numbers":
        return None
    same = (mine > 0) == (theirs > 0) if logits == "labels" else mine.argmax(-1) == theirs.argmax(-1)
    return float(same.double().mean())


def _by_row(outcome: Outcome) -> Tensor | None:
    """The logits `(rows, classes)` by row number, or None where they are not of rows with classes to choose from."""
    # Logits of tokens depend on the padding; a single value is no choice.
    if not outcome.logits or any(part.ndim != 2 or part.shape[1] < 2 for part in outcome.logits):
        return None
    logits = torch.cat(outcome.logits)
    return logits[torch.argsort(torch.tensor(outcome.rows))] if len(logits) == len(outcome.rows) else None


def latency(forward: Forward, feed: Feed, runs: int = 30) -> float:
    """The median time of a forward pass of one row in seconds: rows of the feed of middling length, as they are."""
    by_length = sorted(range(min(feed.rows, 10 * runs)), key=feed.length)
    first = max(0, (len(by_length) - runs) // 2)
    rows = by_length[first : first + runs]
    batches = [feed.on_device(forward.name, [row]) for row in rows]
    times = []
    with isolated_random(), frozen(forward.module):
        for number in range(-3, runs):  # the first ones only warm up
            batch = batches[number % len(batches)]
            began = time.perf_counter()
            forward(batch)
            if feed.device.type == "cuda":
                torch.cuda.synchronize()
            if number >= 0:
                times.append(time.perf_counter() - began)
    return statistics.median(times)
