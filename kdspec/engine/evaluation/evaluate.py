"""Evaluates a model: the metrics of a task on a split, as a fold over batches, and the latency."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import LOSS, Evaluator, State
from kdspec.api.working.logits import Logits
from kdspec.api.working.step import Features
from kdspec.api.working.task import BuiltTask
from kdspec.engine.batches.loader import Loader
from kdspec.engine.batches.sampler import isolated_random
from kdspec.engine.forward.batch_invariance import separate
from kdspec.engine.forward.model_runner import ModelRunner, frozen
from kdspec.engine.processes.process_group import ProcessGroup
from kdspec.ops.mean import Mean


@dataclass(frozen=True)
class Outcome:
    """The result of an evaluation on a split."""

    metrics: dict[str, float]
    states: tuple[State, ...] = ()
    """In the main process the states of the task's evaluator, by batch; batches without a state are left out."""


def evaluate(
    forward: ModelRunner,
    task: BuiltTask,
    loader: Loader,
    batch_size: int,
    rows: Iterable[int] | None = None,
    *,
    evaluator: Evaluator,
    process_group: ProcessGroup | None = None,
    through: Callable[[Callable[[], Features]], Features] = lambda work: work(),
) -> Outcome:
    """The metrics of one model on the loader's split, or on some rows of it, and its loss if that can be computed.

    Rows are sorted by length, so that batches have little padding; neither the result nor training depends on it. A model whose
    rows may depend on their padding gets batches of rows of one length. Each batch is computed by one of the processes; all get the metrics, and the main one the states. `through` runs a forward
    pass of a model that is sharded among them. The task's `evaluator` is used if the model has the features that it reads.
    """
    process_group = process_group or ProcessGroup()
    lengths = loader.lengths_for(forward.name)
    order = sorted(range(loader.rows) if rows is None else rows, key=lengths.__getitem__)
    batches = _batches(order, lengths, batch_size, equal=not separate(forward.module))
    known = evaluator.reads <= forward.features.keys()
    loss = HardLoss(task, labelled=known)
    folds: list[Evaluator] = [*([evaluator] if known else []), *([] if known and evaluator.gives_loss else [loss])]
    own: dict[str, Tensor] = {}
    with isolated_random(), frozen(forward.module):
        if forward.head is not None and order:
            forward.shorten(loader.batch(forward.name, order[:1]).to(loader.device))
        # All processes run the model equally often: the collectives of a sharded model wait for all of them.
        for first in range(0, len(batches), process_group.world):
            number = first + process_group.rank
            here = loader.batch(forward.name, batches[min(number, len(batches) - 1)])
            batch = here.to(loader.device)
            features = through(partial(forward, batch))
            if number >= len(batches):
                continue
            for place, fold in enumerate(folds):
                state = fold.add(features, here if fold is loss else batch)
                own |= {f"{place}.{number}.{name}": tensor.cpu() for name, tensor in state.items()}
    found = {name: tensor for there in process_group.bring(own) for name, tensor in there.items()}
    if not process_group.is_main:
        return Outcome(process_group.share(None))
    states = _by_evaluator(found, len(folds))
    metrics: dict[str, float] = {}
    for fold, of in zip(folds, states, strict=True):
        metrics |= fold.merge(of)
    return Outcome(process_group.share(metrics), states[0] if known else ())


def _batches(order: Sequence[int], lengths: NDArray[np.int64], most: int, *, equal: bool) -> list[Sequence[int]]:
    """The rows of each batch, in their order; `equal`: all of one length."""
    runs = [list(rows) for _, rows in groupby(order, key=lambda row: int(lengths[row]) if equal else 0)]
    return [rows[start : start + most] for rows in runs for start in range(0, len(rows), most)]


def _by_evaluator(found: Mapping[str, Tensor], evaluators: int) -> tuple[tuple[State, ...], ...]:
    """The states of each evaluator, by batch."""
    made: list[dict[int, dict[str, Tensor]]] = [{} for _ in range(evaluators)]
    for key, tensor in found.items():
        place, number, name = key.split(".", 2)
        made[int(place)].setdefault(int(number), {})[name] = tensor
    return tuple(tuple(of[number] for number in sorted(of)) for of in made)


class HardLoss(Evaluator):
    """The loss on the labels of a split, in float64 whatever the model's precision.

    Args:
        task: the task with the hard loss, which is used unless the model returns its own loss.
        labelled: whether the features for the task's loss are available.
    """

    reads = frozenset[str]()
    primary = LOSS

    def __init__(self, task: BuiltTask, *, labelled: bool) -> None:
        self.task, self.labelled = task, labelled

    def add(self, features: Features, batch: Batch) -> State:
        """The total and the count of each loss; the batch is on the CPU."""
        own = features.heads("losses")
        if own:  # of a batch without labels it is NaN
            labelled = self.task.units(batch, {})["labelled"]
            means = [Mean(loss.detach().double().mean().cpu() * labelled, labelled) for loss in own if labelled]
        elif self.labelled and batch.targets:
            means = [*self.task.hard_loss(_widened(features), batch).values()]
        else:
            means = []
        pairs = [[float(mean.total), float(mean.count)] for mean in means]
        return {"losses": torch.tensor(pairs, dtype=torch.float64)} if pairs else {}

    def merge(self, states: Sequence[State]) -> Mapping[str, float]:
        """The sum of the totals divided by the sum of the counts."""
        totals = [pair for state in states for pair in state["losses"].tolist()]
        labelled = sum(count for _, count in totals)
        return {"loss": sum(total for total, _ in totals) / labelled} if labelled else {}


def _widened(features: Features) -> Features:
    """The features on the CPU, floating-point ones in float64."""

    def made(value: Any) -> Any:
        match value:
            case Tensor():
                value = value.detach().cpu()
                return value.double() if value.is_floating_point() else value
            case Logits():
                return made(value.dense())
            case Mapping():
                return {key: made(item) for key, item in value.items()}
            case tuple() | list():
                return tuple(made(item) for item in value)
        return value

    values = {name: made(value) for name, value in features.items()}
    logits, labels = features.logits, features.heads("labels")
    if labels and len(logits) > len(labels):
        values["logits"] = tuple(made(each) for each in logits[: len(labels)])  # the others have no loss
    return Features(values)


def latency(forward: ModelRunner, loader: Loader, runs: int = 30) -> float:
    """The median time of a forward pass of one row in seconds, for rows of medium length, without padding."""
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
