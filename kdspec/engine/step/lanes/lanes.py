"""The lanes of a stage: assigns the micro-batches of a step to threads, and adds up their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import torch

from kdspec.engine.batches.length_split import dealt
from kdspec.engine.step.lanes.lane import Lane, ModuleReplica


class Lanes:
    """The first lane runs in the main thread, each other one in its own thread.

    The micro-batches of a lane are a function of their sizes, each lane processes them in order, and gradients are added
    lane by lane: results are the same in every run, whatever the timing of the threads.
    """

    def __init__(self, first: Lane, others: Sequence[ModuleReplica]) -> None:
        self.first, self.others = first, others
        self._pool = ThreadPoolExecutor(len(others), thread_name_prefix="kdspec-lane")

    @property
    def count(self) -> int:
        """The number of lanes."""
        return 1 + len(self.others)

    def work(self, sizes: Sequence[int], do: Callable[[Lane, int], None]) -> None:
        """Call `do` for each micro-batch, by its index, in a lane.

        Args:
            sizes: the sizes of the micro-batches.
            do: computes a micro-batch and adds to the gradients of the lane.
        """
        shares = dealt(sizes, self.count)
        threads = torch.get_num_threads()

        def in_turn(lane: Lane, numbers: Sequence[int]) -> None:
            # The setting is per thread; all lanes together use as many threads as one would.
            torch.set_num_threads(max(threads // self.count, 1))
            with lane.draws:
                for number in numbers:
                    do(lane, number)

        running = [self._pool.submit(in_turn, *each) for each in zip(self.others, shares[1:], strict=True)]
        try:
            in_turn(self.first, shares[0])
        finally:
            # Also after an error: other lanes still write gradients and read the weights.
            wait(running)
            torch.set_num_threads(threads)
        for each in running:
            each.result()
        for lane in self.others:
            lane.give()

    def close(self) -> None:
        """End the threads and restore the modules."""
        self._pool.shutdown()
        for lane in self.others:
            lane.close()
