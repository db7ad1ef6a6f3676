"""The strategies: `supervised` learns labels, `general` learns from one teacher."""

from __future__ import annotations

from kdspec.component import Component, Strict, by_name
from kdspec.context import BuildContext
from kdspec.hookspecs import hookimpl
from kdspec.kinds import Distiller, LogitLoss, Objective, Schedule, Temperature
from kdspec.match import Match
from kdspec.step import Needs


class SoftLabels(Strict):
    """How the student follows the teacher's logits."""

    loss: LogitLoss = by_name("ce")
    """The loss between the two; several logits heads are summed."""
    temperature: Temperature = by_name(4.0)
    """Divides both logits: a number, or a rule that gives one for each row."""
    weight: Schedule = by_name(1.0)
    """Factor in the total: a number or a schedule."""
    probability_shift: bool = False
    """Swap the teacher's largest logit with that of the label, so that the teacher is never wrong."""


class HardLabels(Strict):
    """How the student follows the labels."""

    weight: Schedule = by_name(0.0)
    """Factor in the total: a number or a schedule."""


class Supervised(Distiller):
    """Trains one model on the labels: a teacher before it teaches, or a student for comparison.

    The loss is the task's own, or the model's where its adaptor has `losses`.
    """

    name = "supervised"
    model: str
    """The model that trains."""
    task: str | None = None
    """The task; may be left out where there is only one."""

    def needs(self) -> Needs:
        return Needs(
            student=self.model,
            tasks=_tasks(self.task),
            optional={self.model: frozenset({"logits_mask"})},
            hard_labels=True,
        )

    def build(self, context: BuildContext) -> Objective:
        from kdspec.objective import DistillationObjective

        return DistillationObjective(tasks=context.tasks, hard=lambda _: 1.0)


class General(Distiller):
    """One teacher, one student: soft labels, hard labels and any number of matches between their layers.

    total = w_soft · Σ_heads soft + Σ_matches w · L + w_hard · Σ hard. A term of weight 0 is not computed. Without
    matches it is the classic distillation of Hinton et al. 2015 (arXiv 1503.02531).
    """

    name = "general"
    teacher: str
    """The model that teaches; frozen, in evaluation mode."""
    student: str
    """The model that learns."""
    task: str | None = None
    """The task; may be left out where there is only one."""
    soft_labels: SoftLabels = by_name({})
    """Following the teacher's logits."""
    hard_labels: HardLabels = by_name({})
    """Following the labels."""
    matches: list[Match] = []
    """Following the teacher's layers."""

    def needs(self) -> Needs:
        soft, hard = not self.soft_labels.weight.always_zero(), not self.hard_labels.weight.always_zero()
        with_labels = soft and (self.soft_labels.loss.needs_labels or self.soft_labels.probability_shift)
        reads = {
            self.student: frozenset({"logits"} if soft else set()) | ({"labels"} if with_labels else set()),
            self.teacher: frozenset({"logits"} if soft else set()),
        }
        masks = frozenset({"logits_mask"})
        return Needs(
            student=self.student,
            teachers=(self.teacher,),
            tasks=_tasks(self.task),
            reads=reads,
            optional={self.student: masks | {"inputs_mask"}, self.teacher: masks},
            hard_labels=hard,
            unlabelled=soft or bool(self.matches),
            matches=tuple(match for match in self.matches if not match.weight.always_zero()),
        )

    def build(self, context: BuildContext) -> Objective:
        from kdspec.objective import DistillationObjective, Soft

        soft = self.soft_labels
        return DistillationObjective(
            tasks=context.tasks,
            hard=None if self.hard_labels.weight.always_zero() else self.hard_labels.weight.build(context),
            soft=None
            if soft.weight.always_zero()
            else Soft(
                teacher=self.teacher,
                loss=soft.loss.build(context),
                needs_labels=soft.loss.needs_labels,
                temperature=soft.temperature.build(context),
                weight=soft.weight.build(context),
                shift=soft.probability_shift,
            ),
            context=context,
        )


def _tasks(task: str | None) -> tuple[str, ...]:
    return (task,) if task is not None else ()


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The strategies."""
    return [Supervised, General]
