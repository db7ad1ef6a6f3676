"""Random seeds and the data order, as pure functions of the seed and the step."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdspec.engine.batches.length_split import LengthSplit, spread


def fold(*parts: int | str) -> int:
    """A stable 63-bit number from several parts: the same in every process, unlike `hash`.

    `1` and `"1"` differ, and so do `("a", "b")` and `("ab",)`.
    """
    assert all(type(part) in (int, str) for part in parts), "only plain ints and strings have one canonical form"
    digest = hashlib.blake2b(json.dumps(parts).encode("ascii"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _cuda_runs() -> bool:
    # CUDA has generators only once it is initialised; before that torch would queue each call.
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]  # untyped in torch


def seed_of(seed: int, step: int, micro: int, rank: int) -> int:
    """The seed of one micro-batch. It is a function of the step, so a checkpoint needs no generator state."""
    return fold(seed, "step", step, micro, rank)


def reseed(seed: int, step: int, micro: int, rank: int) -> None:
    """Seed every global generator for one micro-batch."""
    value = seed_of(seed, step, micro, rank)
    # Not torch.manual_seed: it visits every device type and is a hundred times slower; this runs once per micro-batch.
    torch.default_generator.manual_seed(value)
    if _cuda_runs():
        torch.cuda.manual_seed_all(value)
    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002 - the legacy generator is the global one that other packages draw from


@contextmanager
def isolated_random() -> Iterator[None]:
    """A context that restores every global generator, so that code inside cannot change training."""
    cpu = torch.default_generator.get_state()
    cuda = torch.cuda.get_rng_state_all() if _cuda_runs() else None
    plain = random.getstate()
    numeric = np.random.get_state(legacy=False)  # noqa: NPY002 - as in reseed
    try:
        yield
    finally:
        torch.default_generator.set_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        random.setstate(plain)
        np.random.set_state(numeric)  # noqa: NPY002 - as in reseed


_STEPS_TOGETHER = 50
"""Number of steps in which rows are sorted by length together: with more, the steps of the longest rows would be the
same in each epoch; with fewer, there would be more padding."""


class DataOrder:
    """The rows of each optimizer step: a function of (seed, step), with no state to save or restore.

    An epoch is split into micro-batches of `batch_size` rows, which go to the ranks in turn, `accumulate` of them per rank
    and step. So two ranks have in one step the rows of one process with twice the accumulation. No row is dropped: the last
    micro-batch of an epoch may be smaller, and its last step may have fewer micro-batches.

    With `grouped` lengths the rows of a step are of similar length, so that ranks have equal work, and the steps of an
    epoch are in random order. With a `length_split` each rank's rows of a step are split again by length.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        accumulate: int,
        seed: int,
        *,
        shuffle: bool = True,
        world: int = 1,
        grouped: NDArray[np.int64] | None = None,
        length_split: LengthSplit | None = None,
    ) -> None:
        assert min(rows, batch_size, accumulate, world) >= 1, "an order needs rows, and sizes of at least one"
        self.rows = rows
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.seed = seed
        self.shuffle = shuffle
        self.world = world
        self.grouped = grouped
        self.length_split = length_split
        self._epoch = self._step = -1
        self._micro_batches: list[list[list[int]]] = []
        self._order = torch.empty(0, dtype=torch.int64)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass over the rows; the last may have fewer rows."""
        return -(-self.rows // self.step_rows)

    def epoch_of(self, step: int) -> int:
        """The zero-based epoch of a zero-based step."""
        return step // self.steps_per_epoch

    @property
    def step_rows(self) -> int:
        """Rows of all ranks in an optimizer step; the last of an epoch may have fewer."""
        return self.batch_size * self.accumulate * self.world

    def micro_batches(self, step: int, rank: int = 0) -> list[list[int]]:
        """The row indices of each micro-batch of a zero-based step, counted over all epochs.

        Every rank gets the same number of micro-batches, because collective operations wait for all ranks; some are empty
        at the end of an epoch.
        """
        assert step >= 0, "steps count from zero"
        assert 0 <= rank < self.world, "a rank lies below the world size"
        if self.length_split is None:
            return self.unsplit(step, rank)
        if step != self._step:
            ranks = (self.unsplit(step, each) for each in range(self.world))
            self._micro_batches = [self.length_split.split(list(chain(*rows)), self.batch_size) for rows in ranks]
            self._step = step
        return spread(self._micro_batches[rank], max(map(len, self._micro_batches)))

    def unsplit(self, step: int, rank: int = 0) -> list[list[int]]:
        """The micro-batches of a step before they are split by length."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = self._rows_of(epoch)
        round_rows = self.batch_size * self.world
        start = position * self.accumulate * round_rows
        end = min(start + self.accumulate * round_rows, self.rows)
        firsts = range(start + rank * self.batch_size, end + rank * self.batch_size, round_rows)
        return [order[first : first + self.batch_size].tolist() for first in firsts]

    def _rows_of(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            self._epoch = epoch
            # A generator of its own: the order must not depend on random numbers that the model has used.
            generator = torch.Generator().manual_seed(fold(self.seed, "epoch", epoch))
            if self.shuffle:
                self._order = torch.randperm(self.rows, generator=generator)
            else:
                self._order = torch.arange(self.rows)
            if self.grouped is not None:
                self._order = self._sorted(self._order, torch.from_numpy(self.grouped), generator)
        return self._order

    def _sorted(self, order: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
        """Sort the rows of many steps at a time by length, then shuffle the steps."""
        size = self.step_rows
        full = self.rows // size
        # At most a fifth of the rows, otherwise small data sets would have the same steps in each epoch.
        together = size * max(1, min(_STEPS_TOGETHER, full // 5))
        if not full:
            return order
        parts = (order[first : min(first + together, full * size)] for first in range(0, full * size, together))
        by_length = [part[lengths[part].argsort(stable=True)] for part in parts]
        steps = torch.cat(by_length).view(full, size)[torch.randperm(full, generator=generator)].flatten()
        return torch.cat([steps, order[full * size :]])  # the incomplete step stays last
