"""Intercepts every operation of a step: counts its cost and memory, and replaces data-dependent shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from kdspec.engine.forward.memory import LiveMemory
from kdspec.rehearsal.assumption import assumed
from kdspec.rehearsal.cost import flops

_DEVICE = torch.ops.prim.device.default


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has not typed it
    """A mode that counts operations. Enter it after `FakeTensorMode`, if both are used.

    Args:
        contents: whether tensors are real; if not, data-dependent shapes are assumed, and memory is counted.
    """

    def __init__(self, *, contents: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has not typed it
        self.contents = contents
        self.flops = 0
        self.alive = LiveMemory()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operation and count it."""
        del types
        if func is _DEVICE and isinstance(args[0], FakeTensor):  # the most frequent call of all: skip the dispatch
            return args[0].fake_device
        named = kwargs or {}
        made = None if self.contents else assumed(func, args)
        if made is None:
            made = func(*args, **named)
        self.flops += flops(func, args, named, made)
        if not self.contents:
            for value in (made,) if isinstance(made, Tensor) else tree_iter(made):
                if isinstance(value, Tensor):
                    self.alive.count(value)
        return made
