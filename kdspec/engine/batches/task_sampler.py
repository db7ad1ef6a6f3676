"""The task and the rows of each micro-batch: a function of the seed and the step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kdspec.engine.batches.length_split import spread
from kdspec.engine.batches.sampler import DataOrder, fold

_BLOCK = 4096
"""Number of micro-batches with tasks sampled from one generator; a change would change the results of runs."""


@dataclass(frozen=True)
class Draw:
    """A micro-batch: rows of one task, in one of its epochs."""

    task: str
    rows: list[int]
    epoch: int


class Draws(Protocol):
    """The micro-batches of a stage, step by step."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch of the stage."""

    def epoch_of(self, step: int) -> int:
        """The zero-based epoch of a zero-based step."""

    def passes(self, task: str, steps: int) -> float:
        """The mean number of times that each row of a task is read in this number of steps."""

    def of(self, step: int, rank: int = 0) -> list[Draw]:
        """The micro-batches of a zero-based step for one rank; every rank has equally many, of the same tasks."""

    def shares(self, step: int) -> Mapping[str, float]:
        """The share of each task of a zero-based step in the loss of the step, over all ranks."""


class SingleTask:
    """The micro-batches of a single task."""

    def __init__(self, task: str, order: DataOrder) -> None:
        self.task, self.order = task, order

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass over the rows."""
        return self.order.steps_per_epoch

    def epoch_of(self, step: int) -> int:
        """The zero-based epoch of a zero-based step."""
        return self.order.epoch_of(step)

    def passes(self, task: str, steps: int) -> float:
        """The mean number of times that each row is read in this number of steps."""
        assert task == self.task, "there is one task"
        return steps / self.order.steps_per_epoch

    def of(self, step: int, rank: int = 0) -> list[Draw]:
        """The micro-batches of a zero-based step."""
        epoch = self.order.epoch_of(step)
        return [Draw(self.task, rows, epoch) for rows in self.order.micro_batches(step, rank)]

    def shares(self, step: int) -> Mapping[str, float]:
        """The whole step."""
        del step
        return {self.task: 1.0}


class TaskMixture:
    """Micro-batches of several tasks; the task of each is sampled at random.

    A step samples `accumulate` of them for all ranks together, and each has the next rows in the order of its task. Which
    rows these are depends on how often the task was sampled before, which is recomputed from the seed: there is no state
    to save. An epoch has as many micro-batches as all tasks have together.

    Ranks get the micro-batches of a task in turn, so what a step sees does not depend on their number. A rank has an empty
    one where others have one more of a task, because collective operations wait for all ranks.

    Args:
        orders: the rows of each task, in steps of one micro-batch.
        probabilities: the probability of each task.
        accumulate: micro-batches of a step, on all ranks together.
        seed: the seed of the stage.
        world: the number of ranks.
    """

    def __init__(
        self,
        orders: Mapping[str, DataOrder],
        probabilities: Mapping[str, float],
        accumulate: int,
        seed: int,
        *,
        world: int = 1,
    ) -> None:
        assert orders.keys() == probabilities.keys(), "each task has rows and a probability"
        self.orders, self.probabilities, self.accumulate, self.seed = orders, probabilities, accumulate, seed
        self.world = world
        self.tasks = tuple(orders)
        self._bounds = torch.tensor([probabilities[task] for task in self.tasks], dtype=torch.float64).cumsum(0)[:-1]
        self._block = (-1, torch.empty(0, dtype=torch.int64))
        self._before: list[Tensor] = [torch.zeros(len(self.tasks), dtype=torch.int64)]
        """For each block the number of times that each task is sampled before it, computed on demand."""

    @property
    def batches(self) -> int:
        """Micro-batches of an epoch: those of all tasks together."""
        return sum(order.steps_per_epoch for order in self.orders.values())

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch, rounded up."""
        return -(-self.batches // self.accumulate)

    def epoch_of(self, step: int) -> int:
        """The zero-based epoch of a zero-based step."""
        return step // self.steps_per_epoch

    def passes(self, task: str, steps: int) -> float:
        """The mean number of times that each row of a task is read in this number of steps."""
        return steps * self.accumulate * self.probabilities[task] / self.orders[task].steps_per_epoch

    def of(self, step: int, rank: int = 0) -> list[Draw]:
        """The micro-batches of a zero-based step for one rank."""
        assert 0 <= rank < self.world, "a rank lies below the world size"
        sampled = self._sampled(step)
        if self.world == 1:
            return [draw for task, earlier in sampled for draw in self._split(task, earlier)]
        found: list[Draw] = []
        # In turn over the whole step, so that all ranks have equally many, whatever the tasks are.
        by_task = sorted(sampled, key=lambda each: self.tasks.index(each[0]))
        turns = [(number % self.world, *each) for number, each in enumerate(by_task)]
        for task, epoch in dict.fromkeys((task, self.orders[task].epoch_of(earlier)) for task, earlier in by_task):
            ranks: list[list[list[int]]] = [[] for _ in range(self.world)]
            for turn, of, earlier in turns:
                if (of, self.orders[of].epoch_of(earlier)) == (task, epoch):
                    ranks[turn] += self.orders[task].micro_batches(earlier)
            count = max(map(len, ranks))
            own = ranks[rank] if self.orders[task].length_split is None else spread(ranks[rank], count)
            found += [Draw(task, rows, epoch) for rows in [*own, *([] for _ in range(count - len(own)))]]
        return found

    def shares(self, step: int) -> Mapping[str, float]:
        """By the number of a task's micro-batches, before they are split by length."""
        sampled = [task for task, _ in self._sampled(step)]
        return {task: sampled.count(task) / len(sampled) for task in dict.fromkeys(sampled)}

    def _sampled(self, step: int) -> list[tuple[str, int]]:
        """The task of each micro-batch of a step, and how often the task was sampled before."""
        assert step >= 0, "steps count from zero"
        found = []
        for micro in range(step * self.accumulate, (step + 1) * self.accumulate):
            number, position = divmod(micro, _BLOCK)
            drawn = self._drawn(number)
            chosen = int(drawn[position])
            earlier = int(self._earlier(number)[chosen]) + int((drawn[:position] == chosen).sum())
            found.append((self.tasks[chosen], earlier))
        return found

    def _split(self, task: str, earlier: int) -> list[Draw]:
        order = self.orders[task]
        return [Draw(task, rows, order.epoch_of(earlier)) for rows in order.micro_batches(earlier)]

    def _drawn(self, block: int) -> Tensor:
        """The indices of the tasks of a block's micro-batches."""
        if self._block[0] != block:
            generator = torch.Generator().manual_seed(fold(self.seed, "tasks", block))
            values = torch.rand(_BLOCK, generator=generator, dtype=torch.float64)
            self._block = block, torch.bucketize(values, self._bounds, right=True)
        return self._block[1]

    def _earlier(self, block: int) -> Tensor:
        while len(self._before) <= block:
            drawn = torch.bincount(self._drawn(len(self._before) - 1), minlength=len(self.tasks))
            self._before.append(self._before[-1] + drawn)
        return self._before[block]
