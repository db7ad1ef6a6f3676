"""Chooses how the processes of a run train together, and joins them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kdspec.engine.processes import torchrun
from kdspec.engine.processes.backend import Backend, Precision, SingleProcess
from kdspec.engine.processes.process_group import ProcessGroup
from kdspec.engine.processes.torchrun import Strategy


@dataclass(frozen=True, kw_only=True)
class BackendChoice:
    """What a user has chosen for several processes; a single process has one backend."""

    strategy: Strategy = "auto"
    """`ddp`, which `auto` is too, `fsdp`, or `accelerate`."""
    accelerate_config: Path | None = None
    """A file of `accelerate config`."""
    shard_teachers: bool = False
    """Whether `fsdp` shards frozen models too."""

    def backend(self, process_group: ProcessGroup, precision: Precision, *, trains: bool = True) -> Backend:
        """The backend for a precision; without `trains` it only evaluates, so that DDP replaces accelerate.

        Raises:
            FindingError: KD515 if the settings of accelerate do not fit.
        """
        if process_group.world == 1:
            return SingleProcess(process_group.device, precision, process_group)
        # Imported here: a single process does not need them, and accelerate is optional.
        from kdspec.engine.processes.ddp_fsdp import Replicated, Sharded

        if self.strategy == "accelerate" and trains:
            from kdspec.engine.processes.accelerate import Accelerated

            return Accelerated(process_group, precision, self.accelerate_config)
        if self.strategy != "fsdp":
            return Replicated(process_group, precision)
        return Sharded(process_group, precision, divides_teachers=self.shard_teachers)


def join(device: str | None, strategy: Strategy) -> ProcessGroup:
    """The process group of torchrun's variables, to be entered; a single process without them.

    Raises:
        FindingError: KD513 or KD515 if the variables, the device or the strategy do not fit.
    """
    rank = torchrun.place(os.environ)
    torchrun.check(rank, strategy)
    return ProcessGroup(rank, torchrun.device(rank, device))
