"""The arithmetic of a frozen model, where it is another than that of the model which learns from it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from kdspec.engine.forward.device import placed
from kdspec.engine.processes.backend import Precision

TYPES: Mapping[Precision, torch.dtype] = MappingProxyType(
    {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
)


def in_precision(module: nn.Module, precision: Precision, home: torch.device) -> nn.Module:
    """The module if all its weights are of that type already, else a copy that is; then the module itself goes `home`.

    Autocast would turn all weights of a frozen model anew in each forward pass, which for a micro-batch of a few rows
    takes as long as the products themselves.
    """
    dtype = TYPES[precision]
    tensors = [*module.parameters(), *module.buffers()]
    if all(tensor.dtype == dtype for tensor in tensors if tensor.is_floating_point()):
        return module
    # What a tensor holds is not copied with the structure: tensors without contents could not be.
    made = copy.deepcopy(module, {id(tensor): _turned(tensor, dtype) for tensor in tensors})
    placed(module, home)
    return made


def _turned(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    turned = tensor.detach().to(dtype) if tensor.is_floating_point() else tensor.detach().clone()
    return nn.Parameter(turned, requires_grad=False) if isinstance(tensor, nn.Parameter) else turned


class TeacherPrecision:
    """Runs a module in the precision of its weights, whatever the student's is.

    Args:
        precision: that of the weights.
        device: the type of device.
    """

    def __init__(self, precision: Precision, device: str) -> None:
        self.dtype, self.device = TYPES[precision], "cuda" if device == "cuda" else "cpu"

    def run(self, module: nn.Module, inputs: Mapping[str, Tensor], flags: Mapping[str, bool]) -> Any:
        """What the module returns for inputs of which those of floating point are turned into its type."""
        given = {name: value.to(self.dtype) if value.is_floating_point() else value for name, value in inputs.items()}
        with torch.autocast(self.device, enabled=False):
            return module(**given, **flags)

    def widened(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Features in float32, which losses compute in."""
        found: dict[str, Any] = tree_map(lambda value: value.float() if self._narrow(value) else value, dict(values))
        return found

    def _narrow(self, value: object) -> bool:
        return isinstance(value, Tensor) and value.dtype == self.dtype
