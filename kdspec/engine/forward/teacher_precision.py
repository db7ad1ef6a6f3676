"""Runs a frozen model in another precision than the student's."""

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
    """The module if all its weights have that type, otherwise a converted copy; the module itself is moved to `home`.

    Autocast would convert all weights in each forward pass, which for a micro-batch of a few rows takes as long as the
    matrix products.
    """
    dtype = TYPES[precision]
    tensors = [*module.parameters(), *module.buffers()]
    if all(tensor.dtype == dtype for tensor in tensors if tensor.is_floating_point()):
        return module
    # deepcopy takes the converted tensors from its memo: it could not copy fake tensors.
    made = copy.deepcopy(module, {id(tensor): _converted(tensor, dtype) for tensor in tensors})
    placed(module, home)
    return made


def _converted(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    converted = tensor.detach().to(dtype) if tensor.is_floating_point() else tensor.detach().clone()
    return nn.Parameter(converted, requires_grad=False) if isinstance(tensor, nn.Parameter) else converted


class TeacherPrecision:
    """Runs a module in the precision of its weights, whatever the student's is.

    Args:
        precision: the precision of the weights.
        device: the device type.
    """

    def __init__(self, precision: Precision, device: str) -> None:
        self.dtype, self.device = TYPES[precision], "cuda" if device == "cuda" else "cpu"

    def run(self, module: nn.Module, inputs: Mapping[str, Any], flags: Mapping[str, bool]) -> Any:
        """Run the module; floating-point inputs are converted to its type."""
        given: dict[str, Any] = tree_map(
            lambda value: value.to(self.dtype) if value.is_floating_point() else value, dict(inputs)
        )
        # The student's autocast would change the type of the teacher's products.
        with torch.autocast(self.device, enabled=False):
            return module(**given, **flags)

    def widened(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The features in float32, the precision of losses."""
        found: dict[str, Any] = tree_map(lambda value: value.float() if self._narrow(value) else value, dict(values))
        return found

    def _narrow(self, value: object) -> bool:
        return isinstance(value, Tensor) and value.dtype == self.dtype
