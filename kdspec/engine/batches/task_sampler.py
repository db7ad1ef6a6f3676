"""The task and the rows of each micro-batch: a function of the seed and the step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

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


class TaskMixture:
    """Micro-batches of several tasks; the task of each is sampled at random.

    A step has `accumulate` of them, and each has the next rows in the order of its task. Which rows these are depends on
    how often the task was sampled before, which is recomputed from the seed: there is no state to save. An epoch has as
    many micro-batches as all tasks have together.

    Args:
        orders: the rows of each task, in steps of one micro-batch per rank.
        probabilities: the probability of each task.
        accumulate: micro-batches of a step, on each rank.
        seed: the seed of the stage.
    """

    def __init__(
        self, orders: Mapping[str, DataOrder], probabilities: Mapping[str, float], accumulate: int, seed: int
    ) -> None:
        assert orders.keys() == probabilities.keys(), "each task has rows and a probability"
        self.orders, self.probabilities, self.accumulate, self.seed = orders, probabilities, accumulate, seed
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
        """The micro-batches of a zero-based step."""
        assert step >= 0, "steps count from zero"
        found = []
        for micro in range(step * self.accumulate, (step + 1) * self.accumulate):
            number, position = divmod(micro, _BLOCK)
            drawn = self._drawn(number)
            chosen = int(drawn[position])
            earlier = int(self._earlier(number)[chosen]) + int((drawn[:position] == chosen).sum())
            task = self.tasks[chosen]
            order = self.orders[task]
            found += [Draw(task, rows, order.epoch_of(earlier)) for rows in order.micro_batches(earlier, rank)]
        return found

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
