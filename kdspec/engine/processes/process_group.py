"""The process group of a run: collectives on numbers, JSON data and tensors, and errors that name the failed process."""

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
"""How long a process waits for the others. One may be busy alone, with a save or a teacher's cache."""
_MESSAGE_BYTES = 4096
"""The size of the first buffer of a message; a longer message needs a second round."""
_LENGTH = 8
_TALK = ("gloo", "NCCL", "Gloo", "process group", "Connection closed", "Connection reset", "Broken pipe")
"""Words in torch's errors about processes that cannot be reached."""


class ProcessDied(FindingError):  # noqa: N818 - what happened, an error by its base
    """Another process of the run has failed, so this one cannot continue: KD514."""


class ProcessGroup:
    """The processes of a run; with one process every method returns its argument.

    All processes must enter it before other methods, and call the same methods in the same order: each is a collective.
    Messages are JSON and tensors safetensors, so that no process unpickles data of another.

    Args:
        place: the rank of this process.
        device: its device.
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
            # Flags and counts are CPU tensors and use gloo: agreeing on them does not synchronise a GPU.
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
            with suppress(RuntimeError):  # rank 0 keeps the store: it must not end before the others
                self.barrier()
        # After an error on a GPU the destructor would wait for a collective that never ends.
        if error is None or self.device.type == "cpu":
            dist.destroy_process_group()

    def _never_met(self, error: RuntimeError) -> FindingError:
        place = f"`{self.place.address}:{self.place.port}`"
        message = f"process {self.rank} of {self.world} could not connect to all others at {place}"
        help_ = "start all processes with the same address, and check that each can reach it"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return FindingError(Finding("KD514", message, notes=(reason,), help=help_))

    def explained(self, error: Exception) -> Exception:
        """The error to raise: `ProcessDied` if another process has caused it, otherwise `error` itself."""
        if self.world == 1:
            return error
        if is_communication(error) and (reason := self.heartbeat.culprit()) is not None:
            self.heartbeat.post("left", reason)
            help_ = "the same command resumes from the last checkpoint"
            return ProcessDied(Finding("KD514", reason, notes=("the other processes stop with it",), help=help_))
        # The others read the reason when their collective fails, so it is written before this process ends.
        first = error.findings[0] if isinstance(error, FindingError) else error
        self.heartbeat.post("fell", str(first).splitlines()[0] if str(first) else type(error).__name__)
        return error

    def main_reports(self) -> bool:
        """Whether rank 0, and not this process, reports a failure of both."""
        return not self.is_main and self.heartbeat.wait(("fell", "left"), 0, seconds=2)

    def largest(self, number: int) -> int:
        """The largest number of all processes."""
        if self.world == 1:
            return number
        value = torch.tensor(number)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return int(value)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the processes; `tensor` itself may be returned."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def barrier(self) -> None:
        """Wait until every process has called it."""
        self.largest(0)

    def collect(self, data: Any) -> list[Any]:
        """The data of each process, by rank. It is JSON data, so tuples become lists."""
        if self.world == 1:
            return [data]
        return [json.loads(message) for message in self._gathered(json.dumps(data).encode("ascii"))]

    def share(self, data: Any) -> Any:
        """The data of rank 0; that of other ranks is ignored."""
        return self.collect(data if self.is_main else None)[0]

    def bring(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Gather the tensors of each process, by rank, on the CPU of rank 0; other ranks get their own only."""
        own = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
        if self.world == 1:
            return [own]
        # Copies, because safetensors refuses tensors that share memory.
        own = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in own.items()}
        packed = save(own) if own else b""
        sizes = [int(size) for size in self.collect(len(packed))]
        # `gather` needs buffers of one size on all ranks: that of the longest message.
        buffer = torch.zeros(max(*sizes, 1), dtype=torch.uint8)
        buffer[: len(packed)] = torch.frombuffer(bytearray(packed), dtype=torch.uint8) if packed else buffer[:0]
        into = [torch.empty_like(buffer) for _ in range(self.world)] if self.is_main else None
        dist.gather(buffer, into, dst=0)
        if into is None:
            return [own]
        each = zip(into, sizes, strict=True)
        return [load(message[:size].numpy().tobytes()) if size else {} for message, size in each]

    def spread(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Broadcast the tensors of rank 0 to all, on the CPU; those of other ranks are ignored."""
        if self.world == 1:
            return dict(tensors)
        kinds = {name: [str(t.dtype).removeprefix("torch."), list(t.shape)] for name, t in tensors.items()}
        found = {}
        for name, (dtype, shape) in self.share(kinds).items():
            own = tensors[name].detach().cpu().contiguous() if self.is_main else None
            found[name] = torch.empty(shape, dtype=getattr(torch, dtype)) if own is None else own
            # As bytes, because gloo does not support all types.
            dist.broadcast(found[name].view(-1).view(torch.uint8), src=0)
        return found

    def _gathered(self, message: bytes) -> list[bytes]:
        """The messages of all processes."""
        size, full = _MESSAGE_BYTES, len(message).to_bytes(_LENGTH, "little") + message
        while True:
            mine = torch.zeros(size, dtype=torch.uint8)
            part = bytearray(full[:size])
            mine[: len(part)] = torch.frombuffer(part, dtype=torch.uint8)
            everyone = [torch.empty_like(mine) for _ in range(self.world)]
            dist.all_gather(everyone, mine)
            rows = [row.numpy().tobytes() for row in everyone]
            lengths = [int.from_bytes(row[:_LENGTH], "little") for row in rows]
            # All ranks see the same lengths, so all of them return or all take the second round.
            if max(lengths) + _LENGTH <= size:
                return [row[_LENGTH : _LENGTH + length] for row, length in zip(rows, lengths, strict=True)]
            size = max(lengths) + _LENGTH


def is_communication(error: BaseException | None) -> bool:
    """Whether an error, or a cause of it, is that processes cannot reach each other."""
    while error is not None:
        if isinstance(error, dist.DistError) or (
            isinstance(error, RuntimeError) and any(word in str(error) for word in _TALK)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False
