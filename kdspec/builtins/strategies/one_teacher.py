"""The strategies: `supervised` learns labels, `general` learns from one teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdspec.api.component import Component, by_name
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.distiller import Distiller, ObjectiveContext
from kdspec.api.plan.needs import DeclaredTerm, Needs, TaskNeeds
from kdspec.api.spec.match import Match
from kdspec.objectives import label_terms
from kdspec.objectives.label_terms import HardLabels, SoftLabels

if TYPE_CHECKING:
    from kdspec.api.working.objective import Objective


class Supervised(Distiller):
    """Trains one model on the labels: a teacher before its distillation, or a student for comparison.

    The loss is the task's own, or the model's if its adaptor has `losses`.
    """

    name = "supervised"
    scope = "row"
    model: str
    """The model that is trained."""
    task: str | None = None
    """The task; may be left out if there is only one."""

    def needs(self) -> Needs:
        masks = {self.model: frozenset({"logits_mask"})}
        terms = (DeclaredTerm(name="hard_labels"),)
        return Needs(
            student=self.model, tasks=(TaskNeeds(task=self.task, optional=masks, hard_labels=True, terms=terms),)
        )

    def build(self, context: ObjectiveContext) -> Objective:
        from kdspec.objectives.distillation import DistillationObjective

        return DistillationObjective(tasks=context.tasks, hard=lambda _: 1.0)


class General(Distiller):
    """One teacher, one student: soft labels, hard labels and any number of matches between their layers.

    total = w_soft · Σ_heads soft + Σ_matches w · L + w_hard · mean_heads hard. A term of weight 0 is not computed. Without
    matches it is the classic distillation of Hinton et al. 2015 (arXiv 1503.02531).
    """

    name = "general"
    scope = "row"
    teacher: str
    """The teacher; frozen, in evaluation mode."""
    student: str
    """The model that is trained."""
    task: str | None = None
    """The task; may be left out if there is only one."""
    soft_labels: SoftLabels = by_name({})
    """Learning the teacher's logits."""
    hard_labels: HardLabels = by_name({})
    """Learning the labels."""
    matches: list[Match] = []
    """Learning the teacher's layers."""

    def needs(self) -> Needs:
        soft, hard, matches = self.soft_labels, self.hard_labels, self.matches
        task = label_terms.needs(self.student, [self.teacher], self.task, soft=soft, hard=hard, matches=matches)
        return Needs(student=self.student, tasks=(task,))

    def build(self, context: ObjectiveContext) -> Objective:
        return label_terms.objective(context, [self.teacher], soft=self.soft_labels, hard=self.hard_labels)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The strategies."""
    return [Supervised, General]
