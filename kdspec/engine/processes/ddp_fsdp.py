"""The backends of several processes: DDP, which replicates the weights, and FSDP2, which shards them."""
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
            # Parameters without a gradient differ between ranks and steps (rows without labels, sampled layers), so DDP
            # has to look for unused ones. Buffers are broadcast once per step by `share_buffers`, as under FSDP2.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # older versions of torch do not have the new name
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
        # DDP and FSDP2 divide the sum of the gradients by `world`; the loss is already divided by the global count.
        super().backward(loss * self.world)

    def clip(self, optimizer: Optimizer, parameters: Iterable[Tensor], max_norm: float | None) -> Tensor:
        if self.device.type != "cpu":
            # On the CPU, and before anything synchronises the GPU: a gloo collective with a dead process raises, an NCCL
            # one never ends.
            self.barrier()
        self._scaler.unscale_(optimizer)
        trained = list(parameters)
        norm = self.norm(trained)
        if max_norm is not None:
            # As in torch's clip_grads_with_norm_, which cannot mix sharded and whole gradients.
            factor = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
            for gradient in _gradients(trained):
                gradient.mul_(factor.to(gradient.device, gradient.dtype))
        return norm

    def norm(self, parameters: Iterable[Tensor]) -> Tensor:
        """The global norm, bit-identical for whole and sharded gradients: FSDP2 shards along rows, so the sum of squares
        of a row is computed by one process.
        """
        among = list(parameters)
        if not among:
            return torch.zeros((), device=self.device)
        total = self._everywhere(torch.cat([self._squares(each) for each in among])).sum().sqrt()
        kept = {parameter.grad.dtype for parameter in among if parameter.grad is not None}
        return total if len(kept) != 1 else total.to(kept.pop())

    def _squares(self, parameter: Tensor) -> Tensor:
        """The sum of squares of each row of a gradient; 0 for rows of other processes."""
        return _rows(parameter.grad).to(self.device) if parameter.grad is not None else self._unknown(parameter)

    def _unknown(self, parameter: Tensor) -> Tensor:
        return torch.zeros(parameter.shape[0] if parameter.ndim else 1, dtype=torch.float64, device=self.device)

    def _everywhere(self, rows: Tensor) -> Tensor:
        """The sum over processes of the rows' sums."""
        return rows

    def share_buffers(self, module: nn.Module) -> None:
        for buffer in module.buffers():
            if buffer.is_floating_point():
                dist.broadcast(buffer, src=0)


class _Spare(nn.Module):
    """A module with an extra parameter that is never used: DDP warns on every rank if it finds no unused parameter."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.spare = nn.Parameter(torch.zeros(1))

    def forward(self, work: Callable[[], _T]) -> _T:
        return work()


class Sharded(Replicated):
    """FSDP2: every process has a shard of the weights, gradients and optimizer state of each layer.

    With `divides_teachers` frozen models are sharded too, each separately.
    """

    divided = True

    def __init__(
        self, process_group: ProcessGroup, precision: Precision = "fp32", *, divides_teachers: bool = False
    ) -> None:
        super().__init__(process_group, precision)
        self.divides_teachers = divides_teachers
        self._mesh = init_device_mesh(self.device.type, (self.world,))
        self._numbers: list[nn.Parameter] = []
        """Scalar parameters, which cannot be sharded."""

    def wrap(self, module: nn.Module) -> nn.Module:
        module = module.to(self.device)
        # DDP broadcasts rank 0's weights when it wraps a module; FSDP2 does not.
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.data, src=0)
        kinds = {p.dtype for p in module.parameters() if p.requires_grad}
        if len(kinds) > 1:
            listed = ", ".join(sorted(f"`{str(kind).removeprefix('torch.')}`" for kind in kinds))
            message = f"the trained parameters have several types, {listed}, which FSDP2 cannot shard together"
            raise FindingError(Finding("KD513", message, help="use `--backend ddp`"))
        self._numbers = self._shard(module)
        return module

    def divide(self, module: nn.Module) -> bool:
        if self.divides_teachers and not isinstance(module, FSDPModule):
            self._shard(module, again=True)
            module.to(self.device)  # scalar parameters and buffers
        return self.divides_teachers

    def _shard(self, module: nn.Module, *, again: bool | None = None) -> list[nn.Parameter]:
        """Shard each layer, then the remaining parameters; returns the parameters that stay whole.

        `again`: whether the remaining parameters are resharded after a forward pass, since no backward pass needs them.
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

    def evaluate(self, module: nn.Module, work: Callable[[], _T]) -> _T:
        result = self.compute(module, work)
        # Parameters outside the layers stay gathered for a backward pass, and there is none.
        module.reshard()  # type: ignore[operator]  # `fully_shard` has made it a module with this
        return result

    def accumulate(self, module: nn.Module, last: bool) -> AbstractContextManager[object]:  # noqa: FBT001 - the seam
        module.set_requires_gradient_sync(last)  # type: ignore[operator]  # `fully_shard` has made it a module with this
        return nullcontext()

    def clip(self, optimizer: Optimizer, parameters: Iterable[Tensor], max_norm: float | None) -> Tensor:
        # FSDP2 ignores scalar parameters, so their gradients are averaged here. Every rank must do it, with or without a
        # gradient of its own: it is a collective.
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
        """The mean of all processes' gradients, where a missing one is 0; None if no process has one."""
        own = torch.zeros_like(number) if number.grad is None else number.grad
        reached, gradient = self.sum(torch.stack([torch.full_like(own, number.grad is not None), own]))
        return gradient / self.world if reached else None

    def _squares(self, parameter: Tensor) -> Tensor:
        rows = self._unknown(parameter)
        if isinstance(gradient := parameter.grad, DTensor):
            # FSDP2 splits dimension 0 into equal chunks; the last ones may be smaller or empty.
            own = _rows(gradient.to_local())
            start = min(self.rank * math.ceil(len(rows) / self.world), len(rows))
            rows[start : start + len(own)] = own
        elif gradient is not None and self.is_main:
            rows = _rows(gradient)
        return rows

    def _everywhere(self, rows: Tensor) -> Tensor:
        return self.sum(rows)  # each row is non-zero on one process only, so the sum does not round


def layers(module: nn.Module) -> list[nn.Module]:
    """The layers of a model: the items of its module lists that have parameters; of nested lists the outer one's."""
    found: list[nn.Module] = []
    inside: set[int] = set()
    for inner in module.modules():
        if not isinstance(inner, nn.ModuleList) or id(inner) in inside:
            continue
        inside |= {id(below) for below in inner.modules()}
        found += [layer for layer in inner if next(layer.parameters(), None) is not None]
    return list(dict.fromkeys(found))


def _as_one(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Make autograd sum a layer's gradient by its input within the layer before adding those of other readers.

    FSDP2 does so too. In a single sum the gradient of a match of hidden states would come first, and the last bits would
    differ between the backends.
    """
    del layer
    return tuple(map(_own, args)), {name: _own(value) for name, value in kwargs.items()}


def _own(value: Any) -> Any:
    return value.view_as(value) if isinstance(value, Tensor) and value.requires_grad else value


def _rows(gradient: Tensor) -> Tensor:
    """The sum of squares of each row, in float64, so that the order of later sums does not change the float32 norm."""
    squares = gradient.to(torch.float64).square()
    return squares.flatten(1).sum(1) if gradient.ndim > 1 else squares.reshape(-1)


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The gradients, or their shards, on this process."""
    found = (parameter.grad for parameter in parameters)
    return [g.to_local() if isinstance(g, DTensor) else g for g in found if g is not None]
