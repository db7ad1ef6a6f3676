"""A micro-batch: what one model reads of some rows, and what it is to say of them."""

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
    """What a model is given, by field: the one field "" where a row is one text, or whatever a model reads at once."""
    targets: Mapping[str, Tensor] = field(default_factory=_nothing)
    """The labels, aligned with what they are compared with. A model is given these only where its own loss is read."""
    rows: Sequence[int] = ()
    """The numbers of the rows in their split, in the order of the tensors; the engine fills them in."""
    units: Mapping[Unit, float] = field(default_factory=_nothing)
    """How many of each unit there are, as `BuiltTask.units` counts them before the batch goes to the device."""
    weights: Tensor | None = None
    """A weight for each row; None where all of them count alike."""
    encoded: Sequence[Mapping[str, Any]] = ()
    """Each row as `BuiltTask.encode` has made it, for an evaluator that needs more than tensors; the engine fills it in."""

    @property
    def named(self) -> dict[str, Any]:
        """What `batch` is in a field path: the inputs of the field "" and the targets by name, and the other fields."""
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
        """The same batch with its tensors on a device, where they may still be on their way."""

        def moved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}

        return replace(
            self,
            inputs={name: moved(tensors) for name, tensors in self.inputs.items()},
            targets=moved(self.targets),
            weights=None if self.weights is None else self.weights.to(device, non_blocking=True),
        )
