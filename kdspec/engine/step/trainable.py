"""The module that a stage trains: the student, and the objective with its projections and loss parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn

from kdspec.api.objective import Objective

_T = TypeVar("_T")


class TrainableModule(nn.Module):
    """The student and the objective. Only its parameters are trained, clipped and saved."""

    def __init__(self, student: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.student = student
        self.objective = objective

    def forward(self, work: Callable[[], _T]) -> _T:
        """Return the result of `work`, which calls the parts. DDP and FSDP2 act only when the wrapped module is called."""
        return work()

    @property
    def works_on_models(self) -> bool:
        """Whether the strategy uses the modules of the models between their forward passes."""
        return self.objective.changes_modules or self.objective.makes_batches

    def without_gradient(self) -> list[str]:
        """The names of the student's parameters without a gradient."""
        return [name for name, p in self.student.named_parameters() if p.requires_grad and p.grad is None]

    def stray(self, loss: Tensor) -> list[nn.Parameter]:
        """Parameters of a loss that are outside this module, for example in a closure."""
        inside = {id(parameter) for parameter in self.parameters()}
        reached = [leaf for leaf in _leaves(loss) if isinstance(leaf, nn.Parameter)]
        return [leaf for leaf in reached if id(leaf) not in inside]


def _leaves(loss: Tensor) -> list[Tensor]:
    """The leaf tensors in which a backward pass from `loss` would accumulate gradients."""
    waiting: list[Any] = [loss.grad_fn]
    seen: set[Any] = set()
    leaves = []
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        waiting += [following for following, _ in node.next_functions]
    return leaves
