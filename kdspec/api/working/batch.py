"""A micro-batch: the inputs of some rows as one model reads them, and their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from kdspec.ops.mean import Unit


def _nothing() -> Mapping[Any, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some rows of a task as tensors, for the models of one reader."""

    inputs: Mapping[str, Mapping[str, Tensor]]
    """The model inputs by field. A row that is one text, or is read by one forward pass, has the one field ""."""
    targets: Mapping[str, Tensor] = field(default_factory=_nothing)
    """The labels, aligned with the logits. A model gets them as inputs only if its own loss is read."""
    rows: Sequence[int] = ()
    """Row numbers in the split, in the order of the tensors; set by the engine."""
    units: Mapping[Unit, float] = field(default_factory=_nothing)
    """Number of each unit in the batch, from `BuiltTask.units`, counted before the batch is moved to the device."""
    weights: Tensor | None = None
    """A weight for each row; None: all rows have the same weight."""
    encoded: Sequence[Mapping[str, Any]] = ()
    """Each row as `BuiltTask.encode` returned it, for evaluators that need more than tensors; set by the engine."""

    @property
    def named(self) -> dict[str, Any]:
        """The value of `batch` in a field path: the inputs of the field "" and the targets by name, and the other fields."""
        others = {name: tensors for name, tensors in self.inputs.items() if name}
        return {**others, **self.inputs.get("", {}), **self.targets}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name; those of a field with a name begin with it: `query.input_ids`."""
        inputs = {
            f"{name}.{key}" if name else key: tensor
            for name, tensors in self.inputs.items()
            for key, tensor in tensors.items()
        }
        weights = {} if self.weights is None else {"weights": self.weights}
        return {**inputs, **self.targets, **weights}

    def to(self, device: torch.device | str) -> Batch:
        """The batch with its tensors on a device. Copies are asynchronous (`non_blocking`)."""

        def moved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}

        return replace(
            self,
            inputs={name: moved(tensors) for name, tensors in self.inputs.items()},
            targets=moved(self.targets),
            weights=None if self.weights is None else self.weights.to(device, non_blocking=True),
        )
