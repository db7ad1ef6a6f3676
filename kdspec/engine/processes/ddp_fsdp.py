"""The backends of several processes: DDP, where each has all weights, and FSDP2, where each has a part of them."""
# ruff: noqa: D102 - the protocol documents what its classes do

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.processes.backend import Precision, SingleProcess
from kdspec.engine.processes.process_group import ProcessGroup

_T = TypeVar("_T")


class Replicated(SingleProcess):
    """DDP: every process has all weights, and gradients are averaged over the processes."""

    hooks_gradients = True

    def __init__(self, process_group: ProcessGroup, precision: Precision = "fp32") -> None:
        super().__init__(process_group.device, precision, process_group)
        self._wrapper: DistributedDataParallel | None = None

    def wrap(self, module: nn.Module) -> nn.Module:
        module = module.to(self.device)
        if any(parameter.requires_grad for parameter in module.parameters()):
            for layer in layers(module):
                layer.register_forward_pre_hook(_as_one, with_kwargs=True)
            # What a step leaves out differs from rank to rank: a row without a label, a layer that a draw replaces.
            # Buffers are shared once a step, as under FSDP2.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # its new name is unknown to older versions of torch
                self._wrapper = self._replicated(_Spare(module).to(self.device))
        return module

    def _replicated(self, module: nn.Module) -> DistributedDataParallel:
        return DistributedDataParallel(module, broadcast_buffers=False, find_unused_parameters=True)

    def compute(self, module: nn.Module, work: Callable[[], _T]) -> _T:  # noqa: ARG002 - the seam
        assert self._wrapper is not None, "wrapped, with something to train"
        result: _T = self._wrapper(work)
        return result

    def accumulate(self, module: nn.Module, last: bool) -> AbstractContextManager[object]:  # noqa: ARG002, FBT001 - the seam
        assert self._wrapper is not None, "wrapped, with something to train"
        return nullcontext() if last else self._wrapper.no_sync()

    def backward(self, loss: Tensor) -> None:
        super().backward(loss * self.world)

    def clip(self, optimizer: Optimizer, parameters: Iterable[Tensor], max_norm: float | None) -> Tensor:
        if self.device.type != "cpu":
            # Before anything waits for the device, where a collective with a process that has ended never ends.
            self.barrier()
        self._scaler.unscale_(optimizer)
        learning = list(parameters)
        norm = self.norm(learning)
        if max_norm is not None:
            factor = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
            for gradient in _gradients(learning):
                gradient.mul_(factor.to(gradient.device, gradient.dtype))
        return norm

    def norm(self, parameters: Iterable[Tensor]) -> Tensor:
        """The same to the last bit whether gradients are whole or in pieces: a sum of rows, which no process divides."""
        among = list(parameters)
        if not among:
            return torch.zeros((), device=self.device)
        total = self._everywhere(torch.cat([self._squares(each) for each in among])).sum().sqrt()
        kept = {parameter.grad.dtype for parameter in among if parameter.grad is not None}
        return total if len(kept) != 1 else total.to(kept.pop())

    def _squares(self, parameter: Tensor) -> Tensor:
        """The sum of the squares in each row of a gradient, as far as this process is to tell it; 0 for the rest."""
        return _rows(parameter.grad).to(self.device) if parameter.grad is not None else self._unknown(parameter)

    def _unknown(self, parameter: Tensor) -> Tensor:
        return torch.zeros(parameter.shape[0] if parameter.ndim else 1, dtype=torch.float64, device=self.device)

    def _everywhere(self, rows: Tensor) -> Tensor:
        """What all processes tell of the rows."""
        return rows

    def share_buffers(self, module: nn.Module) -> None:
        for buffer in module.buffers():
            if buffer.is_floating_point():
                dist.broadcast(buffer, src=0)


class _Spare(nn.Module):
    """A module with a parameter that nothing reaches: DDP warns, on every rank, where it looks for one in vain."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.spare = nn.Parameter(torch.zeros(1))

    def forward(self, work: Callable[[], _T]) -> _T:
        return work()


class Sharded(Replicated):
    """FSDP2: every process has a part of the weights, gradients and optimizer state of each layer.

    With `divides_teachers` frozen models are divided as well, each by itself.
    """

    divided = True

    def __init__(
        self, process_group: ProcessGroup, precision: Precision = "fp32", *, divides_teachers: bool = False
    ) -> None:
        super().__init__(process_group, precision)
        self.divides_teachers = divides_teachers
        self._mesh = init_device_mesh(self.device.type, (self.world,))
        self._numbers: list[nn.Parameter] = []
        """Parameters that are a single number: they cannot be divided."""

    def wrap(self, module: nn.Module) -> nn.Module:
        module = module.to(self.device)
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.data, src=0)
        kinds = {p.dtype for p in module.parameters() if p.requires_grad}
        if len(kinds) > 1:
            listed = ", ".join(sorted(f"`{str(kind).removeprefix('torch.')}`" for kind in kinds))
            message = f"what is trained has parameters of several types, {listed}, which FSDP2 cannot divide together"
            raise FindingError(Finding("KD513", message, help="write `--backend ddp`"))
        self._numbers = self._shard(module)
        return module

    def divide(self, module: nn.Module) -> bool:
        if self.divides_teachers and not isinstance(module, FSDPModule):
            self._shard(module, again=True)
            module.to(self.device)  # what could not be divided
        return self.divides_teachers

    def _shard(self, module: nn.Module, *, again: bool | None = None) -> list[nn.Parameter]:
        """Divide each layer, then what is left; the parameters that stay whole.

        `again`: what is left is divided again after a forward pass, for there is no backward pass that wants it.
        """
        numbers = [p for p in module.parameters() if p.ndim == 0]
        ignored = set(numbers)
        for layer in layers(module):
            fully_shard(layer, mesh=self._mesh, ignored_params=ignored & set(layer.parameters()))
        fully_shard(module, mesh=self._mesh, ignored_params=ignored, reshard_after_forward=again)
        return numbers

    def compute(self, module: nn.Module, work: Callable[[], _T]) -> _T:
        result: _T = module(work)
        return result

    def best_model(self, module: nn.Module, work: Callable[[], _T]) -> _T:
        result = self.compute(module, work)
        # What lies outside of the layers stays gathered for a backward pass, which does not come.
        module.reshard()  # type: ignore[operator]  # `fully_shard` has made it a module with this
        return result

    def accumulate(self, module: nn.Module, last: bool) -> AbstractContextManager[object]:  # noqa: FBT001 - the seam
        module.set_requires_gradient_sync(last)  # type: ignore[operator]  # `fully_shard` has made it a module with this
        return nullcontext()

    def clip(self, optimizer: Optimizer, parameters: Iterable[Tensor], max_norm: float | None) -> Tensor:
        for number in self._numbers:
            if number.requires_grad:
                number.grad = self._averaged(number)
        return super().clip(optimizer, parameters, max_norm)

    def state(self, module: nn.Module) -> dict[str, Tensor]:
        return {name: self.whole(tensor) for name, tensor in module.state_dict().items()}

    def load(self, module: nn.Module, state: Mapping[str, Tensor]) -> None:
        own = module.state_dict()
        super().load(module, {n: self.part(t, own[n]) if n in own else t for n, t in state.items()})

    def whole(self, tensor: Tensor) -> Tensor:
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def part(self, tensor: Tensor, like: Tensor) -> Tensor:
        if not isinstance(like, DTensor) or tensor.shape != like.shape:
            return tensor
        return distribute_tensor(tensor.to(self.device), like.device_mesh, like.placements, src_data_rank=None)

    def _averaged(self, number: nn.Parameter) -> Tensor | None:
        """The mean of the gradients of all processes, of which some may have none; None where no process has one."""
        own = torch.zeros_like(number) if number.grad is None else number.grad
        reached, gradient = self.sum(torch.stack([torch.full_like(own, number.grad is not None), own]))
        return gradient / self.world if reached else None

    def _squares(self, parameter: Tensor) -> Tensor:
        rows = self._unknown(parameter)
        if isinstance(gradient := parameter.grad, DTensor):
            own = _rows(gradient.to_local())
            start = min(self.rank * math.ceil(len(rows) / self.world), len(rows))
            rows[start : start + len(own)] = own
        elif gradient is not None and self.is_main:
            rows = _rows(gradient)
        return rows

    def _everywhere(self, rows: Tensor) -> Tensor:
        return self.sum(rows)  # of each row one process tells, so that this rounds nothing


def layers(module: nn.Module) -> list[nn.Module]:
    """The layers of a model: what lies in its lists of modules and has parameters; of a list in a list the outer one."""
    found: list[nn.Module] = []
    inside: set[int] = set()
    for inner in module.modules():
        if not isinstance(inner, nn.ModuleList) or id(inner) in inside:
            continue
        inside |= {id(below) for below in inner.modules()}
        found += [layer for layer in inner if next(layer.parameters(), None) is not None]
    return list(dict.fromkeys(found))


def _as_one(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Have a layer's gradient by its input added up in the layer, and then to that of what reads the input elsewhere.

    FSDP2 does so. In one sum of all, that of a match of hidden states would stand first, and the last bits differ.
    """
    del layer
    return tuple(map(_own, args)), {name: _own(value) for name, value in kwargs.items()}


def _own(value: Any) -> Any:
    return value.view_as(value) if isinstance(value, Tensor) and value.requires_grad else value


def _rows(gradient: Tensor) -> Tensor:
    """The sum of the squares in each row, in 64 bits."""
    squares = gradient.to(torch.float64).square()
    return squares.flatten(1).sum(1) if gradient.ndim > 1 else squares.reshape(-1)


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Those of this process."""
    found = (parameter.grad for parameter in parameters)
    return [g.to_local() if isinstance(g, DTensor) else g for g in found if g is not None]
