"""The linear layer that a model's logits come from, and a scale and a bias of the logits multiplied into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

NO_BIAS = "its last layer has no bias"
_CLOSE = 1e-3
"""How far logits may be from those of scaled outputs, relative to the largest: the weights may be of half precision."""


@dataclass(frozen=True)
class Scaling:
    """What is done to logits: multiplied by `scale`, and `bias` is added; each is one number, or one for each class."""

    scale: Tensor
    bias: Tensor | None = None

    def of(self, logits: Tensor) -> Tensor:
        """Scaled logits, (..., classes)."""
        scaled = logits * self.scale.to(logits)
        return scaled if self.bias is None else scaled + self.bias.to(logits)

    def undone(self, logits: Tensor) -> Tensor:
        """The logits before."""
        plain = logits if self.bias is None else logits - self.bias.to(logits)
        return plain / self.scale.to(logits)


@dataclass(frozen=True)
class LastLayer:
    """A layer whose outputs are the logits."""

    layer: nn.Linear

    def fold(self, scaling: Scaling) -> None:
        """Multiply it in: a (W x + b) + c = (a W) x + (a b + c), computed in float64."""
        scale = scaling.scale.detach().double().to(self.layer.weight.device)
        with torch.no_grad():
            rows = scale[:, None] if scale.ndim else scale
            self.layer.weight.copy_(self.layer.weight.double() * rows)
            if self.layer.bias is not None:
                bias = self.layer.bias.double() * scale
                self.layer.bias.copy_(bias if scaling.bias is None else bias + scaling.bias.to(bias))

    @contextmanager
    def unchanged_afterwards(self) -> Iterator[None]:
        """Its weights are to the bit what they were."""
        kept = [(parameter, parameter.detach().clone()) for parameter in self.layer.parameters(recurse=False)]
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, values in kept:
                    parameter.copy_(values)


def last_layer(module: nn.Module, logits: Callable[[], Tensor], *, with_bias: bool) -> LastLayer | str:
    """The layer in which a scale of the logits can be, or the reason why there is none.

    It is found by trying: of the linear layers with an output for each class that run, the last one with which scaled
    weights give scaled logits. All weights are unchanged afterwards.

    Args:
        module: the model.
        logits: computes the logits of some rows with it, (..., classes).
        with_bias: whether each class needs a bias too.
    """
    called: list[nn.Linear] = []
    owners = [id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False)]
    with ExitStack() as hooks:
        hooks.enter_context(torch.compiler.set_stance("force_eager"))  # compiled modules call no hooks
        for inner in module.modules():
            if type(inner) is nn.Linear:  # one of another class does more than a product
                hooks.callback(inner.register_forward_hook(lambda layer, _, __: called.append(layer)).remove)
        plain = logits()
    classes = plain.shape[-1]
    found = [each for each in dict.fromkeys(reversed(called)) if each.out_features == classes]
    found = [each for each in found if owners.count(id(each.weight)) == 1]
    whole = [each for each in found if not with_bias or each.bias is not None]
    for each in whole:
        layer = LastLayer(each)
        numbers = torch.arange(1, classes + 1, dtype=torch.float64, device=plain.device) / classes
        scaling = Scaling(1 + numbers, numbers if with_bias else None)
        with layer.unchanged_afterwards():
            layer.fold(scaling)
            scaled = logits()
        expected = scaling.of(plain)
        if torch.allclose(scaled, expected, rtol=0, atol=_CLOSE * float(expected.abs().max().clamp(min=1e-6))):
            return layer
    return NO_BIAS if found and not whole else "its logits are not the outputs of a linear layer of its own"
