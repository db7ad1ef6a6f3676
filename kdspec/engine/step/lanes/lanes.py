"""The lanes of a stage: who computes which micro-batch of a step, and the threads in which they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import torch

from kdspec.engine.batches.length_split import dealt
from kdspec.engine.step.lanes.lane import Lane, ModuleReplica


class Lanes:
    """The first lane computes in the main thread, each of the others in one of its own.

    Which micro-batches a lane has is a function of their sizes, each lane does its own in their order, and gradients are
    added lane by lane: so the numbers are the same in every run, however long each thread takes.
    """

    def __init__(self, first: Lane, others: Sequence[ModuleReplica]) -> None:
        self.first, self.others = first, others
        self._pool = ThreadPoolExecutor(len(others), thread_name_prefix="kdspec-lane")

    @property
    def count(self) -> int:
        """How many there are."""
        return 1 + len(self.others)

    def work(self, sizes: Sequence[int], do: Callable[[Lane, int], None]) -> None:
        """Have `do` compute each micro-batch, given by its number, in a lane.

        Args:
            sizes: of the micro-batches.
            do: adds to the gradients of the lane.
        """
        shares = dealt(sizes, self.count)
        threads = torch.get_num_threads()

        def in_turn(lane: Lane, numbers: Sequence[int]) -> None:
            torch.set_num_threads(max(threads // self.count, 1))
            with lane.draws:
                for number in numbers:
                    do(lane, number)

        running = [self._pool.submit(in_turn, *each) for each in zip(self.others, shares[1:], strict=True)]
        try:
            in_turn(self.first, shares[0])
        finally:
            wait(running)
            torch.set_num_threads(threads)
        for each in running:
            each.result()
        for lane in self.others:
            lane.give()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()
        for lane in self.others:
            lane.close()
