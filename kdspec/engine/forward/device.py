"""Moves modules to the device and the floating-point type of a stage."""

from __future__ import annotations

from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

_Module = TypeVar("_Module", bound=nn.Module)


def placed(module: _Module, device: torch.device, dtype: torch.dtype | None = None) -> _Module:
    """The module itself, moved to the device; `dtype` applies to floating-point tensors.

    `Module.to` cannot change fake tensors in place, so the tensors of such a module are replaced.
    """
    if not any(isinstance(tensor, FakeTensor) for tensor in chain(module.parameters(), module.buffers())):
        return module.to(device=device, dtype=dtype)
    made: dict[int, nn.Parameter] = {}
    for inner in module.modules():
        for name, parameter in list(inner.named_parameters(recurse=False)):
            moved = _moved(parameter, device, dtype)
            if moved is not parameter:
                fresh = nn.Parameter(moved.detach(), requires_grad=parameter.requires_grad)
                setattr(inner, name, made.setdefault(id(parameter), fresh))
        for name, buffer in list(inner.named_buffers(recurse=False)):
            setattr(inner, name, _moved(buffer, device, dtype))
    return module


def _moved(tensor: Tensor, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)
