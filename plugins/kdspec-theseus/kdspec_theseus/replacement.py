"""Random replacement of a model's layers by groups of another model's layers, for the time of a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def groups(teacher: int, student: int) -> list[range]:
    """For each of the student's layers the teacher's layers that it replaces: neighbours, in groups as equal as possible."""
    return [range(i * teacher // student, (i + 1) * teacher // student) for i in range(student)]


def layer_lists(module: nn.Module, length: int) -> list[str]:
    """The paths of lists of this many modules with parameters; for nested lists only the outer one."""
    found: list[str] = []
    for name, inner in module.named_modules():
        fits = isinstance(inner, nn.ModuleList) and len(inner) == length and any(p.numel() for p in inner.parameters())
        if fits and not name.startswith(tuple(f"{other}." for other in found)):
            found.append(name)
    return found


class Replacement:
    """Between `begin` and `end` each of the student's layers computes with the probability `rate`, else its group.

    The random numbers are from torch's generator on the CPU, like those of dropout, so that they follow the seed of a
    step, and a layer that is recomputed for its activations samples the same. In evaluation mode nothing is sampled.

    Args:
        layers: the student's layers.
        others: for each of them the teacher's layers that it replaces.
        frozen: the student's parameters that are not trained meanwhile.
    """

    def __init__(
        self, layers: Sequence[nn.Module], others: Sequence[Sequence[nn.Module]], frozen: Sequence[nn.Parameter]
    ) -> None:
        self.layers, self._others, self._frozen = tuple(layers), tuple(others), tuple(frozen)
        self._before: list[tuple[nn.Module, Any]] | None = None

    def begin(self, rate: float) -> None:
        """Mix the layers, unless the rate is 1 or more, and freeze the parameters that are not trained."""
        if self._before is not None:
            return
        mixed = self.layers if rate < 1 else ()
        self._before = [(layer, vars(layer).get("forward")) for layer in mixed]
        for layer, group in zip(mixed, self._others, strict=False):
            # The layer stays in its module, so that the student's parameters keep their names.
            layer.forward = _mixed(layer, layer.forward, group, rate)
        for parameter in self._frozen:
            parameter.requires_grad_(False)

    def end(self) -> None:
        """Make the student an ordinary model again."""
        for layer, before in self._before or ():
            if before is None:
                del layer.forward
            else:
                layer.forward = before
        for parameter in self._frozen if self._before is not None else ():
            parameter.requires_grad_(True)
        self._before = None

    def zero(self) -> Tensor:
        """A zero with a gradient of zeros for every parameter of the layers.

        A layer that is not sampled in a step would have no gradient; if no layer is, neither would the loss.
        """
        firsts = [
            p.reshape(-1)[0] for layer in self.layers for p in layer.parameters() if p.requires_grad and p.numel()
        ]
        return torch.stack([first.float() for first in firsts]).sum() * 0


def _mixed(layer: nn.Module, own: Callable[..., Any], group: Sequence[nn.Module], rate: float) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        if not layer.training or torch.rand(()).item() < rate:
            return own(*args, **kwargs)
        output = group[0](*args, **kwargs)
        for following in group[1:]:
            hidden = output[0] if isinstance(output, tuple) else output
            output = (
                following(hidden, *args[1:], **kwargs) if args else following(**{**kwargs, "hidden_states": hidden})
            )
        return output

    return forward
