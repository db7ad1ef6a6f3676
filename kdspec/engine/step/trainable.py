"""The module that a stage trains: the student, and the objective with its projections and loss parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

from kdspec.api.working.objective import Objective
from kdspec.diagnostics.finding import Finding, FindingError, SpecPath
from kdspec.ops.leaves import leaves

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

    def versions(self) -> list[int]:
        """How often each parameter and each buffer has been changed."""
        return [tensor._version for tensor in (*self.parameters(), *self.buffers())]  # noqa: SLF001 - autograd's count

    def without_gradient(self) -> list[str]:
        """The names of the student's parameters without a gradient."""
        return [name for name, p in self.student.named_parameters() if p.requires_grad and p.grad is None]

    def check_reached(self, loss: Tensor, at: SpecPath) -> None:
        """Check that a loss has no parameters outside this module, for example in a closure.

        Raises:
            FindingError: KD510 at the path `at`.
        """
        inside = {id(parameter) for parameter in self.parameters()}
        for leaf in leaves(loss):
            if isinstance(leaf, nn.Parameter) and id(leaf) not in inside:
                message = f"a loss has a parameter of shape {list(leaf.shape)} that would never be trained"
                help_ = "a loss with parameters is an `nn.Module` that has them as attributes"
                raise FindingError(Finding("KD510", message, at, help=help_))
