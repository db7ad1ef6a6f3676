"""The checks of classes: averaged teachers have the same classes, and settings for classes have logits of classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.losses import LOGIT_KINDS
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from kdspec.api.kinds.model import ModelFacts
    from kdspec.api.plan.plan import Plan, TaskPlan

CODE = "KD403"


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Teachers with other classes than the first one, or in another order; and settings that need logits of classes."""
    trained: set[str] = set()
    for stage in plan.stages:
        for task in stage.tasks.values():
            yield from _agree(plan, task, trained)
            yield from _classes_only(plan, task)
        trained.add(stage.student)


def _classes_only(plan: Plan, task: TaskPlan) -> Iterator[Finding]:
    """Settings that need logits of classes, for logits of another kind."""
    logits = plan.spec.tasks[task.task].logits
    if logits is None or logits == "classes":
        return
    has = LOGIT_KINDS[logits]
    for each in task.needs.classes_only:
        message = f"{each.why}; task `{task.task}` has {has}"
        also = (Mark(("tasks", task.task), f"has {has}", key=True),)
        yield Finding("KD313", message, (*task.at, *each.at), "does not fit the task", also=also, help=each.help)


def _agree(plan: Plan, task: TaskPlan, trained: set[str]) -> Iterator[Finding]:
    """Skips models that a stage has trained, which have the head of its task, and those with adaptors, which may slice."""
    asked = [
        teacher
        for teacher in task.teachers
        if teacher not in trained | plan.spec.adaptors.keys() and "logits" in task.needs.reads.get(teacher, frozenset())
    ]
    known = [(teacher, plan.facts[teacher]) for teacher in asked if plan.facts[teacher].classes is not None]
    for teacher, found in known[1:]:
        first, other = known[0]
        differ = _difference(other, found)
        if differ is None:
            continue
        what, sides = differ
        label = Mark(("models", teacher), sides[1], key=True)
        also = (Mark(("models", first), sides[0], key=True),)
        message = f"teachers `{first}` and `{teacher}` of stage `{task.stage}` have {what}"
        help_ = "averaged teachers need the same classes in the same order; train one of them on the task in an earlier stage"
        yield Finding(CODE, message, *label, also=also, help=help_)


def _difference(first: ModelFacts, second: ModelFacts) -> tuple[str, tuple[str, str]] | None:
    if first.classes != second.classes:
        return "different numbers of classes", (f"{first.classes} classes", f"{second.classes} classes")
    if first.labels != second.labels and sorted(first.labels) == sorted(second.labels):
        return "the same classes in another order", (", ".join(first.labels), ", ".join(second.labels))
    return None
