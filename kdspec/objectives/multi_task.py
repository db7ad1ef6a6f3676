"""An objective for several tasks: each micro-batch goes to the objective of its task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from kdspec.api.working.objective import Objective
from kdspec.api.working.step import Step, Term, View
from kdspec.diagnostics.fault import Fault, Within


@dataclass(frozen=True)
class TaskObjective:
    """The objective of one task.

    Args:
        objective: the objective of steps of this task.
        weight: the factor of all its terms, a function of the progress.
        at: path in the strategy's parameters to those of this task.
    """

    objective: Objective
    weight: Callable[[float], float]
    at: tuple[str | int, ...] = ()


class MultiTaskObjective(Objective):
    """The terms of the step's task, with the task as prefix of their names. The plan has already prefixed those of matches."""

    def __init__(self, parts: Mapping[str, TaskObjective]) -> None:
        super().__init__()
        self.parts = dict(parts)
        inner = [part.objective for part in parts.values()]
        # Registered, so that their parameters are trained. A list would be one of layers, which FSDP2 gathers in `forward`
        # alone, and `relate` has to read them as well. Names of tasks may have dots, those of modules may not.
        self.objectives = nn.ModuleDict({str(number): each for number, each in enumerate(inner)})
        self.reads_teachers_by_matches = all(each.reads_teachers_by_matches for each in inner)
        self.keeps_nothing = all(each.keeps_nothing for each in inner)
        self.compares_steps = any(each.compares_steps for each in inner)
        self._of_view: dict[str, tuple[str, str]] = {}
        """For each view its task, and its name in the task's objective."""
        self.changes_modules = any(each.changes_modules for each in inner)
        assert not any(each.makes_batches for each in inner), (
            "the objective of one of several tasks cannot make its own batches"
        )

    def forward(self, step: Step) -> dict[str, Term]:
        """The terms with a non-zero weight at this progress."""
        part = self.parts[step.task]
        factor = part.weight(step.progress)
        if not factor:
            return {}
        try:
            terms = part.objective(step)
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

    def views(self, step: Step) -> dict[str, View]:
        """Those of the task, under the names of its terms."""
        part, prefix = self.parts[step.task], f"{step.task}."
        if not part.weight(step.progress):
            return {}
        found = {}
        for name, view in part.objective.views(step).items():
            outer = name if name.startswith(prefix) else prefix + name
            self._of_view[outer], found[outer] = (step.task, name), view
        return found

    def relate(self, views: Mapping[str, View], progress: float) -> dict[str, Term]:
        """Those of all tasks, each weighted."""
        found = {}
        for outer, view in views.items():
            task, name = self._of_view[outer]
            part = self.parts[task]
            for term in part.objective.relate({name: view}, progress).values():
                found[outer] = replace(term, weight=term.weight * part.weight(progress))
        return found

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Those of all tasks."""
        return [group for part in self.parts.values() for group in part.objective.parameter_groups()]

    def on_step_begin(self, progress: float, models: Mapping[str, nn.Module]) -> None:
        """Called for all tasks, whatever tasks the micro-batches of the step have."""
        for part in self.parts.values():
            part.objective.on_step_begin(progress, models)

    def on_step_end(self, progress: float) -> None:
        """Called for all tasks."""
        for part in self.parts.values():
            part.objective.on_step_end(progress)

    def path_of(self, term: str) -> tuple[str | int, ...]:
        """A path below the parameters of the term's task."""
        task = next((task for task in self.parts if term.startswith(f"{task}.")), None)
        if task is None:
            return ()
        return (*self.parts[task].at, *self.parts[task].objective.path_of(term.removeprefix(f"{task}.")))
