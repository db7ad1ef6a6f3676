"""An objective for several tasks: that of the micro-batch's task, its terms under the task's name and weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from kdspec.api.step import Step, Term
from kdspec.diagnostics.fault import Fault, Within


@dataclass(frozen=True)
class TaskObjective:
    """The objective of one task, an `nn.Module` like any other objective.

    Args:
        objective: what a step of this task is given to.
        weight: the factor of all its terms, a function of the progress.
        at: keys of the strategy's parameters that lead to what this task is written with.
    """

    objective: nn.Module
    weight: Callable[[float], float]
    at: tuple[str | int, ...] = ()


class MultiTaskObjective(nn.Module):
    """The terms of the step's task. A match has the task in the name that the plan gave it, other terms get it here."""

    def __init__(self, parts: Mapping[str, TaskObjective]) -> None:
        super().__init__()
        self.parts = dict(parts)
        self.objectives = nn.ModuleList(part.objective for part in parts.values())  # what is in them is trained

    def forward(self, step: Step) -> dict[str, Term]:
        """The terms whose weight is not 0 now."""
        part = self.parts[step.task]
        factor = part.weight(step.progress)
        if not factor:
            return {}
        try:
            terms: dict[str, Term] = part.objective(step)
        except Fault as fault:
            fault.at = (*part.at, *fault.at)
            raise
        except Within as within:
            if within.at[: len(part.at)] != part.at:
                within.at = (*part.at, *within.at)
            raise
        prefix = f"{step.task}."
        return {
            name if name.startswith(prefix) else prefix + name: replace(term, weight=term.weight * factor)
            for name, term in terms.items()
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Those of all tasks."""
        asked = (getattr(part.objective, "parameter_groups", None) for part in self.parts.values())
        return [group for ask in asked if ask is not None for group in ask()]
