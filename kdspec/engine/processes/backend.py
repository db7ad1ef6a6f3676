"""The interface between the training loop and processes, devices and dtypes, and its version for one process."""
# ruff: noqa: D102 - the protocol documents what its classes do

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.processes.process_group import ProcessGroup

_T = TypeVar("_T")
Precision = Literal["fp32", "bf16", "fp16"]


class Backend(Protocol):
    """Processes, devices and precision, for the training loop. Every rank calls the same methods in the same order.

    The names fit one process, DDP and FSDP2; each method documents its meaning in the latter two.
    """

    @property
    def process_group(self) -> ProcessGroup:
        """The processes of the run."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0 to `world - 1`."""

    @property
    def world(self) -> int:
        """The number of processes."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and events: true for rank 0 alone."""

    @property
    def divided(self) -> bool:
        """Whether the weights are sharded over the processes."""

    @property
    def divides_teachers(self) -> bool:
        """Whether `divide` shards models."""

    @property
    def hooks_gradients(self) -> bool:
        """Whether hooks receive gradients from autograd, parameter by parameter."""

    @property
    def device(self) -> torch.device:
        """The device of this process."""

    @property
    def scales(self) -> bool:
        """Whether losses are scaled (fp16): a gradient may then overflow, and `step` skips the update."""

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module on the device, in DDP or sharded in place by FSDP2. Call it before creating the optimizer."""

    def divide(self, module: nn.Module) -> bool:
        """Shard a frozen model, which is still on the CPU, if the backend shards teachers; returns whether it is sharded.

        A sharded model gathers weights in its forward pass: every rank must then run it equally often and to its end.
        """

    def autocast(self) -> AbstractContextManager[object]:
        """Run forward passes in the run's precision; parameters keep their type."""

    def accumulate(self, module: nn.Module, last: bool) -> AbstractContextManager[object]:  # noqa: FBT001 - a keyword in use
        """Around forward and backward of a micro-batch: gradients are reduced over the ranks at the `last` one only.

        For DDP this is `no_sync`, for FSDP2 `set_requires_gradient_sync`.
        """

    def compute(self, module: nn.Module, work: Callable[[], _T]) -> _T:
        """Run `work`, the forward passes and losses of one backward pass; every rank must call it.

        DDP finds in the returned tensors which parameters will receive gradients, and FSDP2 gathers the weights.
        """

    def evaluate(self, module: nn.Module, work: Callable[[], _T]) -> _T:
        """Run `work`, forward passes without a backward pass; every rank must call it."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss that is already divided by the counts of all ranks.

        DDP and FSDP2 average gradients over the ranks, so they multiply the loss by `world` first.
        """

    def clip(self, optimizer: Optimizer, parameters: Iterable[Tensor], max_norm: float | None) -> Tensor:
        """Clip the gradients to `max_norm`, unless that is None; returns their global L2 norm before.

        Call it once per step: it unscales all gradients of the optimizer. Under FSDP2 the norm is that of the whole
        tensors, not of this rank's shards.
        """

    def norm(self, parameters: Iterable[Tensor]) -> Tensor:
        """The global L2 norm of the gradients, which `clip` has unscaled."""

    def step(self, optimizer: Optimizer) -> bool:
        """Update the weights; False if a scaled gradient overflowed and every rank skipped the update."""

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the ranks; `tensor` itself may be returned."""

    def barrier(self) -> None:
        """Wait until every rank has called it."""

    def share_buffers(self, module: nn.Module) -> None:
        """Broadcast the floating-point buffers of rank 0: each rank has updated its own with its rows."""

    def state(self, module: nn.Module) -> dict[str, Tensor]:
        """Parameters and buffers by the names that the module had before `wrap`; FSDP2 gathers whole tensors.

        Every rank must call it; only rank 0 uses the result.
        """

    def load(self, module: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Restore a `state`, also one of another backend. Raises KD504 if names or shapes differ."""

    def whole(self, tensor: Tensor) -> Tensor:
        """The whole tensor of a sharded tensor of the optimizer's state; every rank must call it."""

    def part(self, tensor: Tensor, like: Tensor) -> Tensor:
        """The reverse of `whole`: this rank's shard of a whole tensor if the parameter `like` is sharded."""

    def scaler_state(self) -> dict[str, Any]:
        """The loss scale and its history as JSON data; empty if losses are not scaled."""

    def load_scaler_state(self, state: Mapping[str, Any]) -> None:
        """Restore a `scaler_state`."""


class SingleProcess:
    """The backend of one process on one device.

    `bf16` and `fp16` run forward passes under autocast with float32 parameters; `fp16` also scales the loss, because small
    gradients underflow in float16.
    """

    divided = divides_teachers = hooks_gradients = False

    def __init__(
        self,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
        process_group: ProcessGroup | None = None,
    ) -> None:
        self.process_group = ProcessGroup() if process_group is None else process_group
        self.rank, self.world, self.is_main = (
            self.process_group.rank,
            self.process_group.world,
            self.process_group.is_main,
        )
        self.device = torch.device(device)
        self.scales = precision == "fp16"
        self._dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.scales)

    def wrap(self, module: nn.Module) -> nn.Module:
        return module.to(self.device)

    def divide(self, module: nn.Module) -> bool:  # noqa: ARG002 - the seam
        return False

    def autocast(self) -> AbstractContextManager[object]:
        return nullcontext() if self._dtype is None else torch.autocast(self.device.type, self._dtype)

    def accumulate(self, module: nn.Module, last: bool) -> AbstractContextManager[object]:  # noqa: ARG002, FBT001 - the seam
        return nullcontext()

    def compute(self, module: nn.Module, work: Callable[[], _T]) -> _T:  # noqa: ARG002 - the seam
        return work()

    def evaluate(self, module: nn.Module, work: Callable[[], _T]) -> _T:  # noqa: ARG002 - the seam
        return work()

    def backward(self, loss: Tensor) -> None:
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch has not typed it

    def clip(self, optimizer: Optimizer, parameters: Iterable[Tensor], max_norm: float | None) -> Tensor:
        # Unscale first: `max_norm` bounds the gradient of the loss, not of the scaled loss.
        self._scaler.unscale_(optimizer)
        trained = [parameter for parameter in parameters if parameter.grad is not None]
        norm = self.norm(trained)
        if max_norm is not None:
            clip_grads_with_norm_(trained, max_norm, norm)
        return norm

    def norm(self, parameters: Iterable[Tensor]) -> Tensor:
        return get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])

    def step(self, optimizer: Optimizer) -> bool:
        scale = self._scaler.get_scale()
        self._scaler.step(optimizer)
        self._scaler.update()
        # GradScaler does not report a skipped update, but it lowers the scale if and only if it has found an overflow.
        return self._scaler.get_scale() >= scale

    def sum(self, tensor: Tensor) -> Tensor:
        return self.process_group.sum(tensor)

    def barrier(self) -> None:
        self.process_group.barrier()

    def share_buffers(self, module: nn.Module) -> None:  # noqa: ARG002 - the seam
        return None

    def state(self, module: nn.Module) -> dict[str, Tensor]:
        return module.state_dict()

    def load(self, module: nn.Module, state: Mapping[str, Tensor]) -> None:
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            notes = tuple(line.strip() for line in str(error).splitlines()[1:])
            message = "the weights in the checkpoint do not fit the model"
            raise FindingError(Finding("KD504", message, notes=notes)) from error

    def whole(self, tensor: Tensor) -> Tensor:
        return tensor

    def part(self, tensor: Tensor, like: Tensor) -> Tensor:  # noqa: ARG002 - the seam
        return tensor

    def scaler_state(self) -> dict[str, Any]:
        return self._scaler.state_dict()

    def load_scaler_state(self, state: Mapping[str, Any]) -> None:
        if not self.scales:
            return
        known = self._scaler.state_dict()
        if state.keys() != known.keys() or any(type(state[key]) is not type(known[key]) for key in known):
            raise FindingError(
                Finding("KD504", "the loss scale in the checkpoint is damaged: `scaler` has other entries")
            )
        self._scaler.load_state_dict(dict(state))
