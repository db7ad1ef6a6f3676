"""The processes of a run as one of them sees them: what they agree on, add up and hand to one another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor

from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.processes import torchrun
from kdspec.engine.processes.heartbeat import Heartbeat
from kdspec.engine.processes.torchrun import Rank

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others, one of which may be busy alone: with a save, or a teacher's cache."""
_ROOM = 4096
"""Bytes of a message that are sent at once; a longer one needs a second time."""
_LENGTH = 8
_TALK = ("gloo", "NCCL", "Gloo", "process group", "Connection closed", "Connection reset", "Broken pipe")
"""What the errors of torch say where another process could not be reached."""


class ProcessDied(FindingError):  # noqa: N818 - what happened, an error by its base
    """Another process of the run is the reason why this one cannot go on: KD514."""


class ProcessGroup:
    """Several processes that train together; of one alone every method gives back what it was given.

    To be entered before anything else of it is used, by all processes, each of which calls the same methods in the
    same order. Messages are JSON, tensors travel as safetensors: no process unpickles what another has sent.

    Args:
        place: this process among them.
        device: where it computes.
        patience: how long it waits for the others.
    """

    def __init__(
        self, place: Rank = torchrun.ALONE, device: torch.device | str = "cpu", patience: timedelta = PATIENCE
    ) -> None:
        self.place, self.device, self.patience = place, torch.device(device), patience
        self.rank, self.world = place.rank, place.world
        self.heartbeat = Heartbeat(place)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and events: true for rank 0 alone."""
        return self.rank == 0

    def __enter__(self) -> Self:
        if self.world > 1:
            # The numbers that are agreed on are on the CPU, so that nobody waits for a device to say yes or no.
            kinds = "gloo" if self.device.type == "cpu" else "cpu:gloo,cuda:nccl"
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
            try:
                dist.init_process_group(kinds, rank=self.rank, world_size=self.world, timeout=self.patience)
                self.heartbeat.start()
                self.barrier()
            except RuntimeError as error:
                raise self._never_met(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.world == 1:
            return
        self.heartbeat.stop()
        if error is None:
            with suppress(RuntimeError):  # one that ends early would end the place where all of them meet
                self.barrier()
        # A collective on a GPU that nobody will ever answer would be waited for.
        if error is None or self.device.type == "cpu":
            dist.destroy_process_group()

    def _never_met(self, error: RuntimeError) -> FindingError:
        place = f"`{self.place.address}:{self.place.port}`"
        message = f"process {self.rank} of {self.world} has not met all others at {place}"
        help_ = "all of them are to be started, with the same address, and to reach it"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return FindingError(Finding("KD514", message, notes=(reason,), help=help_))

    def explained(self, error: Exception) -> Exception:
        """The error to go on with: `Fallen` where another process has caused it, and otherwise `error` itself."""
        if self.world == 1:
            return error
        if _of_talk(error) and (reason := self.heartbeat.culprit()) is not None:
            self.heartbeat.post("left", reason)
            help_ = "the same command goes on from the last checkpoint"
            return ProcessDied(Finding("KD514", reason, notes=("the others end with it",), help=help_))
        first = error.findings[0] if isinstance(error, FindingError) else error
        self.heartbeat.post("fell", str(first).splitlines()[0] if str(first) else type(error).__name__)
        return error

    def others_tell(self) -> bool:
        """Whether the main process, and not this one, tells of a failure of both."""
        return not self.is_main and self.heartbeat.wait(("fell", "left"), 0, seconds=2)

    def largest(self, number: int) -> int:
        """The largest of what the processes say."""
        if self.world == 1:
            return number
        told = torch.tensor(number)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return int(told)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the processes; `tensor` itself may be returned."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def barrier(self) -> None:
        """Wait until every process is here."""
        self.largest(0)

    def collect(self, data: Any) -> list[Any]:
        """What each process says, by rank; JSON data, of which tuples become lists."""
        if self.world == 1:
            return [data]
        return [json.loads(told) for told in self._gathered(json.dumps(data).encode("ascii"))]

    def share(self, data: Any) -> Any:
        """What the main process says; of the others it does not matter."""
        return self.collect(data if self.is_main else None)[0]

    def bring(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """The tensors of each process, by rank, on the CPU; for the main process alone, the others get their own."""
        own = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
        if self.world == 1:
            return [own]
        # Copies, since the format takes no two tensors of the same memory.
        own = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in own.items()}
        packed = save(own) if own else b""
        sizes = [int(size) for size in self.collect(len(packed))]
        room = torch.zeros(max(*sizes, 1), dtype=torch.uint8)
        room[: len(packed)] = torch.frombuffer(bytearray(packed), dtype=torch.uint8) if packed else room[:0]
        into = [torch.empty_like(room) for _ in range(self.world)] if self.is_main else None
        dist.gather(room, into, dst=0)
        if into is None:
            return [own]
        each = zip(into, sizes, strict=True)
        return [load(told[:size].numpy().tobytes()) if size else {} for told, size in each]

    def spread(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of the main process on the CPU, for all; those of the others do not matter."""
        if self.world == 1:
            return dict(tensors)
        kinds = {name: [str(t.dtype).removeprefix("torch."), list(t.shape)] for name, t in tensors.items()}
        found = {}
        for name, (dtype, shape) in self.share(kinds).items():
            own = tensors[name].detach().cpu().contiguous() if self.is_main else None
            found[name] = torch.empty(shape, dtype=getattr(torch, dtype)) if own is None else own
            # As bytes, for there are types that a collective does not know.
            dist.broadcast(found[name].view(-1).view(torch.uint8), src=0)
        return found

    def _gathered(self, told: bytes) -> list[bytes]:
        """The bytes of each process."""
        room, full = _ROOM, len(told).to_bytes(_LENGTH, "little") + told
        while True:
            mine = torch.zeros(room, dtype=torch.uint8)
            part = bytearray(full[:room])
            mine[: len(part)] = torch.frombuffer(part, dtype=torch.uint8)
            everyone = [torch.empty_like(mine) for _ in range(self.world)]
            dist.all_gather(everyone, mine)
            rows = [row.numpy().tobytes() for row in everyone]
            lengths = [int.from_bytes(row[:_LENGTH], "little") for row in rows]
            if max(lengths) + _LENGTH <= room:
                return [row[_LENGTH : _LENGTH + length] for row, length in zip(rows, lengths, strict=True)]
            room = max(lengths) + _LENGTH


def _of_talk(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, is of processes that cannot reach each other."""
    while error is not None:
        if isinstance(error, dist.DistError) or (
            isinstance(error, RuntimeError) and any(word in str(error) for word in _TALK)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False
