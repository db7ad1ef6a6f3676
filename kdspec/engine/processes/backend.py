"""Where and how precisely a run computes: the narrow seam between the training loop and processes, devices, dtypes."""
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
    """What the loop asks of its surroundings. Every rank calls the same methods in the same order.

    The names fit one process, DDP and FSDP2 alike; each method says what it means in the latter two.
    """

    @property
    def process_group(self) -> ProcessGroup:
        """The processes that train together."""

    @property
    def rank(self) -> int:
        """This process among `world`."""

    @property
    def world(self) -> int:
        """How many processes train together."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and events: true for rank 0 alone."""

    @property
    def divided(self) -> bool:
        """Whether each process has a part of the weights only."""

    @property
    def divides_teachers(self) -> bool:
        """Whether `divide` does anything."""

    @property
    def hooks_gradients(self) -> bool:
        """Whether gradients are waited for as autograd hands them out, parameter by parameter."""

    @property
    def device(self) -> torch.device:
        """The device of this process."""

    @property
    def scales(self) -> bool:
        """Whether losses are scaled (fp16): a gradient may then overflow, and `step` copes with it."""

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module ready to train on the device, in DDP or sharded in place by FSDP2; before its optimizer is made."""

    def divide(self, module: nn.Module) -> bool:
        """Divide a frozen model, on the CPU still, where the backend does that with teachers; whether it is divided.

        Every rank runs it equally often from then on, and a forward pass that has begun comes to its end.
        """

    def autocast(self) -> AbstractContextManager[object]:
        """Forward passes inside compute in the run's precision; parameters stay as they are."""

    def accumulate(self, module: nn.Module, last: bool) -> AbstractContextManager[object]:  # noqa: FBT001 - a keyword in use
        """Around forward and backward of a micro-batch: gradients are reduced over the ranks only at the `last`.

        For DDP this is `no_sync`, for FSDP2 `set_requires_gradient_sync`.
        """

    def compute(self, module: nn.Module, work: Callable[[], _T]) -> _T:
        """What `work` gives, which runs forward passes and losses for one backward pass; to be called by every rank.

        DDP learns from the tensors that come out what the backward pass will reach, and FSDP2 gathers the weights.
        """

    def best_model(self, module: nn.Module, work: Callable[[], _T]) -> _T:
        """The same for forward passes without a backward pass."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss that is already divided by the counts of all ranks.

        DDP and FSDP2 average over the ranks, so there the loss is multiplied by `world` first.
        """

    def clip(self, optimizer: Optimizer, parameters: Iterable[Tensor], max_norm: float | None) -> Tensor:
        """The global L2 norm of the gradients before clipping them to `max_norm`, unless that is None.

        To be called once a step: it undoes the scaling for all parameters of the optimizer. Under FSDP2 the norm is
        that of the whole tensors, not of this rank's shards.
        """

    def norm(self, parameters: Iterable[Tensor]) -> Tensor:
        """The global L2 norm of the gradients, after `clip` has undone their scaling."""

    def step(self, optimizer: Optimizer) -> bool:
        """Change the weights; False if a scaled gradient overflowed, so that this step was left out on every rank."""

    def agree(self, flag: bool) -> bool:  # noqa: FBT001 - the flag is what is agreed on
        """Whether any rank says so: all take one branch, or the others would wait in a collective for ever."""

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the ranks; `tensor` itself may be returned."""

    def barrier(self) -> None:
        """Wait until every rank is here."""

    def share_buffers(self, module: nn.Module) -> None:
        """Give every rank the floating-point buffers of the main one, which have seen its rows alone."""

    def state(self, module: nn.Module) -> dict[str, Tensor]:
        """Parameters and buffers by the names that the module had before `wrap`; whole tensors, gathered by FSDP2.

        Every rank takes part; only the main one needs the result.
        """

    def load(self, module: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave, under any backend. Raises KD504 if names or shapes differ."""

    def whole(self, tensor: Tensor) -> Tensor:
        """A tensor of the optimizer's state without division; every rank takes part."""

    def part(self, tensor: Tensor, like: Tensor) -> Tensor:
        """The reverse: what this rank has of a whole tensor, where its parameter `like` is divided."""

    def scaler_state(self) -> dict[str, Any]:
        """The loss scale and its history as JSON data, empty where nothing is scaled."""

    def load_scaler_state(self, state: Mapping[str, Any]) -> None:
        """Put back what `scaler_state` gave."""


class SingleProcess:
    """A backend of one process on one device.

    `bf16` and `fp16` run forward passes under autocast with float32 parameters; `fp16` scales the loss as well.
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

    def best_model(self, module: nn.Module, work: Callable[[], _T]) -> _T:  # noqa: ARG002 - the seam
        return work()

    def backward(self, loss: Tensor) -> None:
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch has not typed it

    def clip(self, optimizer: Optimizer, parameters: Iterable[Tensor], max_norm: float | None) -> Tensor:
        self._scaler.unscale_(optimizer)
        learning = [parameter for parameter in parameters if parameter.grad is not None]
        norm = self.norm(learning)
        if max_norm is not None:
            clip_grads_with_norm_(learning, max_norm, norm)
        return norm

    def norm(self, parameters: Iterable[Tensor]) -> Tensor:
        return get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])

    def step(self, optimizer: Optimizer) -> bool:
        scale = self._scaler.get_scale()
        self._scaler.step(optimizer)
        self._scaler.update()
        # The scale shrinks where, and only where, the scaler found an overflow.
        return self._scaler.get_scale() >= scale

    def agree(self, flag: bool) -> bool:  # noqa: FBT001 - the seam
        return bool(self.process_group.largest(flag))

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
        self._scaler.load_state_dict(dict(state))
