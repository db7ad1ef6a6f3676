"""The strategy `multi_task`: one student with a head for each task, and a teacher for each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from kdspec.api.component import Component, Strict, by_name, invalid_value
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.distiller import Distiller, ObjectiveContext
from kdspec.api.kinds.kinds import Schedule
from kdspec.api.plan.needs import Needs
from kdspec.api.spec.match import Match
from kdspec.api.spec.task_sampling import Sampling
from kdspec.objectives import label_terms
from kdspec.objectives.label_terms import HardLabels, SoftLabels

if TYPE_CHECKING:
    from kdspec.api.working.objective import Objective


class TaskTerms(Strict):
    """The terms of one task: those of `general`, times the task's weight."""

    teacher: str | None = None
    """The teacher of this task; frozen, in evaluation mode. Default: the task is learnt from its labels."""
    weight: Schedule = by_name(1.0)
    """Factor of all terms of this task: a number or a schedule."""
    soft_labels: SoftLabels = by_name({})
    """Learning the teacher's logits."""
    hard_labels: HardLabels = by_name({})
    """Learning the labels."""
    matches: list[Match] = []
    """Learning the teacher's layers."""

    @model_validator(mode="after")
    def _learns(self) -> Self:
        if self.teacher is None and self.matches:
            raise invalid_value("`matches` need a `teacher`", "matches")
        if self.teacher is None and self.hard_labels.weight.always_zero():
            raise invalid_value(
                "a task without a `teacher` is learnt from its labels: write `hard_labels: {weight: 1}`"
            )
        return self

    @property
    def teachers(self) -> tuple[str, ...]:
        """The teacher, if there is one."""
        return () if self.teacher is None else (self.teacher,)


class MultiTask(Distiller):
    """One student learns several tasks, each from a teacher of its own: a shared encoder with a head for each task.

    Each micro-batch belongs to one task, sampled by `sampling` as a function of the seed and the step; its terms are
    those of `general`, times the task's weight. A step of several micro-batches gives each task the share of its
    micro-batches. An epoch has as many micro-batches as all tasks together; with
    proportional sampling it sees each task's data once on average. The best student has the highest mean of the tasks'
    own metrics, or the best value of the metric that `training.evaluate` names: `topics.accuracy`. A transformers student
    is saved with a folder for each task. Liu et al. 2019, "Improving Multi-Task Deep Neural Networks via Knowledge
    Distillation for Natural Language Understanding" (arXiv 1904.09482); TextBrewer's `MultiTaskDistiller`.
    """

    name = "multi_task"
    student: str
    """The model that is trained."""
    tasks: dict[str, TaskTerms] = Field(
        min_length=2, examples=[{"reviews": {"teacher": "critic"}, "topics": {"teacher": "librarian"}}]
    )
    """For each task its teacher and its terms."""
    sampling: Sampling = by_name({})
    """How the tasks share the micro-batches."""

    def needs(self) -> Needs:
        parts = []
        for task, how in self.tasks.items():
            part = label_terms.needs(
                self.student, how.teachers, task, soft=how.soft_labels, hard=how.hard_labels, matches=how.matches
            )
            off = how.weight.always_zero()
            nothing: dict[str, frozenset[str]] = {}
            part = replace(part, reads=nothing, hard_labels=False, matches=(), unlabelled=False) if off else part
            parts.append(replace(part, at=("tasks", task)))
        return Needs(student=self.student, tasks=tuple(parts), sampling=self.sampling)

    def build(self, context: ObjectiveContext) -> Objective:
        from kdspec.objectives.multi_task import MultiTaskObjective, TaskObjective

        return MultiTaskObjective(
            {
                task: TaskObjective(
                    label_terms.objective(
                        replace(
                            context,
                            tasks={task: context.tasks[task]},
                            matches=tuple(match for match in context.matches if match.task == task),
                        ),
                        how.teachers,
                        soft=how.soft_labels,
                        hard=how.hard_labels,
                    ),
                    how.weight.build(context),
                    at=("tasks", task),
                )
                for task, how in self.tasks.items()
            }
        )


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The strategy."""
    return [MultiTask]
