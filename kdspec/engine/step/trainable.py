"""All that a stage trains in one module: the student, and the objective with its projections and loss parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn

from kdspec.api.built import Objective
from kdspec.api.step import Step, Term
from kdspec.objectives.distillation import DistillationObjective
from kdspec.objectives.multi_task import MultiTaskObjective

_T = TypeVar("_T")


class TrainableModule(nn.Module):
    """The student and the objective. Only what is in here is trained, clipped and saved."""

    def __init__(self, student: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.student = student
        # An objective without parameters need not be a module.
        self.objective: nn.Module = objective if isinstance(objective, nn.Module) else _Plain(objective)

    def forward(self, work: Callable[[], _T]) -> _T:
        """What `work` gives. DDP and FSDP2 do theirs where a module is called; its parts are called in there."""
        return work()

    def moment(self, name: str) -> Callable[..., Any] | None:
        """A method that an objective may have, or None."""
        objective = self.objective.function if isinstance(self.objective, _Plain) else self.objective
        found: Callable[..., Any] | None = getattr(objective, name, None)
        return found

    @property
    def reads_by_matches(self) -> bool:
        """Whether what is read of teachers' layers is read by matches; a strategy's own objective may read more."""
        whole = self.objective
        parts = [part.objective for part in whole.parts.values()] if isinstance(whole, MultiTaskObjective) else [whole]
        return all(type(part) is DistillationObjective for part in parts)

    def idle(self) -> list[str]:
        """The names of the student's parameters without a gradient."""
        return [name for name, p in self.student.named_parameters() if p.requires_grad and p.grad is None]

    def stray(self, loss: Tensor) -> list[nn.Parameter]:
        """The parameters that a loss depends on, but that are not in here: hidden in a closure, say."""
        inside = {id(parameter) for parameter in self.parameters()}
        reached = [leaf for leaf in _leaves(loss) if isinstance(leaf, nn.Parameter)]
        return [leaf for leaf in reached if id(leaf) not in inside]


class _Plain(nn.Module):
    def __init__(self, function: Objective) -> None:
        super().__init__()
        self.function = function

    def forward(self, step: Step) -> dict[str, Term]:
        return self.function(step)


def _leaves(loss: Tensor) -> list[Tensor]:
    """What a backward pass from `loss` would accumulate gradients in."""
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
