"""Large heads: the forward pass stops at the head's input, and losses apply the head chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from kdspec.api.kinds.model import Model, ModelContext
from kdspec.api.working.logits import HeadLogits, OutputHead
from kdspec.engine.forward.forward_hooks import HookPoint, each

LEAST = 2**13
"""Minimum classes of a large head; logits of smaller heads are computed in the forward pass."""
_TOLERANCE = 1e-3
_FEW = 16
"""Number of positions at which the head is compared with the model's logits."""


class LargeHead:
    """The head of a model, by its name: weights may be gathered for a forward pass, or be those of a lane."""

    def __init__(self, head: OutputHead) -> None:
        self.head = head
        self.input = HookPoint(head.path, 0, "input", 0)
        """The first input of the head."""

    def logits(self, module: nn.Module, hidden: Tensor) -> HeadLogits:
        """The logits of hidden states, computed when they are used."""
        linear: Any = module.get_submodule(self.head.path)
        return HeadLogits(hidden, linear.weight, linear.bias, self.head.post)

    def behind(self, wanted: Mapping[str, Any]) -> bool:
        """Whether a captured tensor is an output of the head or of a module that contains it."""
        taken = [tap for name, value in wanted.items() if name != "logits" for tap in each(value)]
        return any(
            tap.side == "output" and f"{self.head.path}.".startswith(f"{tap.module}.".lstrip(".")) for tap in taken
        )

    def gives(self, found: HeadLogits, logits: Any) -> bool:
        """Whether it gives the model's logits: compared at a few positions, and for fake tensors by shape only."""
        if not isinstance(logits, Tensor) or (*found.shape, found.classes) != logits.shape:
            return False
        if isinstance(logits, FakeTensor) or logits.is_meta:
            return True
        few, there = found.flat().part(slice(_FEW)).dense(), logits.flatten(end_dim=-2)[:_FEW]
        return torch.allclose(few.float(), there.float(), rtol=_TOLERANCE, atol=_TOLERANCE)


def large_head(model: Model, module: nn.Module, context: ModelContext) -> LargeHead | None:
    """The head of a model that declares a large one, else None."""
    head = model.output_head(module, context)
    if head is None:
        return None
    linear: Any = module.get_submodule(head.path)
    return LargeHead(head) if linear.weight.shape[0] >= LEAST else None
