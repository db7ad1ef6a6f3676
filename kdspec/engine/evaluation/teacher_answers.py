"""The answers of teachers to rows without labels, which a model is measured beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kdspec.api.plan.mixture import Mixture
from kdspec.api.working.evaluator import Evaluator, State
from kdspec.engine.evaluation.evaluate import Outcome
from kdspec.engine.processes.process_group import ProcessGroup


@dataclass
class TeacherAnswers:
    """The answers of a task's teachers to a split, computed when they are first needed, and the metrics beside them."""

    evaluator: Evaluator
    teachers: Sequence[Callable[[], Outcome]]
    """Evaluates each teacher on the split. All processes call it."""
    mixture: Mixture
    process_group: ProcessGroup
    changing: bool = False
    """Whether the strategy changes them, so that they answer each time."""
    _states: Sequence[State] | None = field(default=None, init=False)

    def beside(self, outcome: Outcome) -> dict[str, float]:
        """The metrics of a model; all processes call it, and all get them."""
        if self._states is None or self.changing:
            found = [teacher() for teacher in self.teachers]
            self._states = self.joined([each.states for each in found]) if self.process_group.is_main else ()
        metrics = dict(self.evaluator.beside(outcome.states, self._states)) if self.process_group.is_main else None
        return dict(self.process_group.share(metrics))

    def joined(self, states: Sequence[Sequence[State]]) -> Sequence[State]:
        """The states of all teachers as those of one; none if a teacher has none."""
        return self.evaluator.joined(states, self.mixture) if states and all(states) else ()
