"""How good a model is: the task's metrics on a split, agreement with a teacher, speed and size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from kdspec.api.answers import Answers
from kdspec.api.losses import LogitKind
from kdspec.api.step import Features
from kdspec.api.task import BuiltTask
from kdspec.engine.batches.loader import Loader
from kdspec.engine.batches.sampler import isolated_random
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.engine.processes.process_group import ProcessGroup
from kdspec.engine.step.normalization import count
from kdspec.objectives.soft_labels import outputs
from kdspec.ops.mean import Mean


@dataclass(frozen=True)
class Outcome:
    """A model's answers for a split, and what they are worth."""

    metrics: dict[str, float]
    answers: Answers | None = None
    """None where the model gives no logits, or the task no labels or condenses them."""


def evaluate(
    forward: ModelRunner,
    task: BuiltTask,
    loader: Loader,
    batch_size: int,
    rows: Iterable[int] | None = None,
    *,
    process_group: ProcessGroup | None = None,
    through: Callable[[Callable[[], Features]], Features] = lambda work: work(),
) -> Outcome:
    """The metrics of one model on the feed's split, or on some rows of it, and its loss where that can be computed.

    Rows are taken by length, so that batches have little padding; neither the result nor training depends on it.
    The processes of a team share the batches, each of which is computed by one of them; all get the metrics, and the
    main one the answers. `through` runs a forward pass of a model that is divided among them.
    """
    process_group = process_group or ProcessGroup()
    order = sorted(range(loader.rows) if rows is None else rows, key=loader.lengths.__getitem__)
    starts = range(0, len(order), batch_size)
    own: dict[str, Tensor] = {}
    condense = getattr(task, "condense", None)
    with isolated_random(), frozen(forward.module):
        # All processes run the model equally often, since a divided one needs all of them.
        for first in range(0, len(starts), process_group.world):
            number = first + process_group.rank
            start = starts[min(number, len(starts) - 1)]
            batch = loader.on_device(forward.name, order[start : start + batch_size])
            features = through(partial(forward, batch))
            if number >= len(starts):
                continue
            said, truth = tuple(value.dense() for value in outputs(features)), features.heads("labels")
            if condense is not None and said and truth:
                said, truth = ((value,) for value in condense(said[0], truth[0]))
            own |= {f"logits.{head}.{number}": value.float().cpu() for head, value in enumerate(said)}
            own |= {f"labels.{head}.{number}": value.cpu() for head, value in enumerate(truth)}
            if condense is None:
                means = _loss(task, features, count(batch, {}, task.label_keys)["labelled"])
                own |= {f"loss.{head}.{number}": _pair(mean) for head, mean in enumerate(means)}
    found = {name: tensor for there in process_group.bring(own) for name, tensor in there.items()}
    if not process_group.is_main:
        return Outcome(process_group.share(None))
    logits, labels, losses = (_by_head(found, kind, len(starts)) for kind in ("logits", "labels", "loss"))
    answers = None
    if logits and labels:
        answers = Answers(
            split=loader.split,
            rows=tuple(order),
            examples=[loader.example(forward.name, row) for row in order],
            logits=logits,
            labels=labels,
            tokenizer=loader.tokenizer[loader.key_of[forward.name]],
        )
    metrics = {} if answers is None else dict(task.metrics(answers))
    totals = [pair.tolist() for batches in zip(*losses, strict=True) for pair in batches]
    if labelled := sum(counted for _, counted in totals):
        metrics["loss"] = sum(total for total, _ in totals) / labelled
    return Outcome(process_group.share(metrics), answers if condense is None else None)


def _pair(loss: Mean) -> Tensor:
    return torch.tensor([float(loss.total), float(loss.count)], dtype=torch.float64)


def _by_head(found: Mapping[str, Tensor], kind: str, batches: int) -> tuple[tuple[Tensor, ...], ...]:
    """For each head the tensors of all batches in order; those of batches without any are left out."""
    heads = 1 + max((int(name.split(".")[1]) for name in found if name.startswith(f"{kind}.")), default=-1)
    return tuple(
        tuple(found[name] for number in range(batches) if (name := f"{kind}.{head}.{number}") in found)
        for head in range(heads)
    )


def _loss(task: BuiltTask, features: Features, labelled: float) -> list[Mean]:
    own = features.heads("losses")
    if own:  # of a batch without labels it is NaN
        return [Mean(loss.detach().double().mean().cpu() * labelled, labelled) for loss in own if labelled]
    pairs = zip(outputs(features), features.heads("labels"), strict=False)
    return [task.loss(logits.dense().detach().double().cpu(), labels.cpu()) for logits, labels in pairs]


def agreement(first: Outcome, second: Outcome, logits: LogitKind | None = "classes") -> float | None:
    """The part of rows for which both models choose the same class, or None where they do not choose of the same.

    Of tokens those count that have a label; where there are several heads, a row counts if all of them agree. Where each
    label of a row holds or does not, the part of these decisions that are the same.
    """
    one, other = first.answers, second.answers
    if one is None or other is None or len(one.logits) != len(other.logits) or logits == "numbers":
        return None
    if len(one.logits) > 1 and one.tokenizer is not other.tokenizer:
        return None  # heads that choose a position mean the same by it for one tokenizer alone
    same = []
    for head in range(len(one.logits)):
        mine, theirs = (_choices(answers, head, several=logits == "labels") for answers in (one, other))
        if mine is None or theirs is None or mine[0] != theirs[0] or mine[1].shape != theirs[1].shape:
            return None
        same.append(mine[1] == theirs[1])
    return float(torch.stack(same).all(0).double().mean()) if same[0].numel() else None


def _choices(answers: Answers, head: int, *, several: bool) -> tuple[set[int], Tensor] | None:
    """Of how many classes, and which, in the order of the rows; None where there are none to choose from."""
    logits, labels = answers.logits[head], answers.labels[min(head, len(answers.labels) - 1)]
    found: list[Tensor] = []
    for said, right in zip(logits, labels, strict=True):
        if said.ndim not in (2, 3) or said.shape[-1] < 2 or (said.ndim == 3 and said.shape[:2] != right.shape):
            return None
        chosen = said > 0 if several else said.argmax(-1)
        found += [row[known] for row, known in zip(chosen, right != -100, strict=True)] if said.ndim == 3 else chosen
    if len(found) != len(answers.rows):
        return None
    order = sorted(range(len(found)), key=lambda place: answers.rows[place])
    return {said.shape[-1] for said in logits}, torch.cat([found[place].reshape(-1) for place in order])


def latency(forward: ModelRunner, loader: Loader, runs: int = 30) -> float:
    """The median time of a forward pass of one row in seconds: rows of the feed of middling length, as they are."""
    by_length = sorted(range(min(loader.rows, 10 * runs)), key=loader.lengths.__getitem__)
    first = max(0, (len(by_length) - runs) // 2)
    rows = by_length[first : first + runs]
    batches = [loader.on_device(forward.name, [row]) for row in rows]
    times = []
    with isolated_random(), frozen(forward.module):
        for number in range(-3, runs):  # the first ones only warm up
            batch = batches[number % len(batches)]
            began = time.perf_counter()
            forward(batch)
            if loader.device.type == "cuda":
                torch.cuda.synchronize()
            if number >= 0:
                times.append(time.perf_counter() - began)
    return statistics.median(times)
