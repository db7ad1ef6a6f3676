"""The checks of classes: loaded heads have those of their task, and settings for classes have logits of classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.losses import LOGIT_KINDS
from kdspec.api.working.task import Head
from kdspec.data import class_match
from kdspec.diagnostics.diagnostic import listed
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import Finding, Mark
from kdspec.hf import loaded_heads

if TYPE_CHECKING:
    from kdspec.api.kinds.kinds import Task
    from kdspec.api.kinds.model import ModelFacts
    from kdspec.api.plan.plan import Plan, TaskPlan

CODE = "KD403"


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Heads in files that are not those of the task, teachers that differ, and settings that need logits of classes."""
    heads = {name: _head(plan.spec.tasks[name]) for stage in plan.stages for name in stage.tasks}
    # A head that is re-initialised and trained is worth a note of the run, and nothing to mend.
    yield from (found for found in loaded_heads.findings(plan, heads) if found.severity != "note")
    for stage in plan.stages:
        for task in stage.tasks.values():
            if not heads[task.task].labels:
                yield from _agree(plan, task)
            yield from _classes_only(plan, task)


def _head(task: Task) -> Head:
    """The head of a task, with its labels if they are known without rows."""
    built = None
    if task.labelled or task.head == "regression":
        try:
            built = task.without_rows()
        except Fault:  # the rehearsal reports it
            built = None
    return Head(kind=task.head) if built is None else built.head


def _classes_only(plan: Plan, task: TaskPlan) -> Iterator[Finding]:
    """Settings that need logits of classes, for logits of another kind."""
    logits = plan.spec.tasks[task.task].logits
    if logits is None or logits in ("classes", "scores"):  # of a query's candidates one is right
        return
    has = LOGIT_KINDS[logits]
    for each in task.needs.classes_only:
        message = f"{each.why}; task `{task.task}` has {has}"
        also = (Mark(("tasks", task.task), f"has {has}", key=True),)
        yield Finding("KD313", message, (*task.at, *each.at), "does not fit the task", also=also, help=each.help)


def _agree(plan: Plan, task: TaskPlan) -> Iterator[Finding]:
    """Teachers with other classes than the first one, where those of the task are not known before its rows are read.

    Skips models that a stage has trained, which have the head of its task, and those with adaptors, which may slice.
    """
    asked = [
        name for name in task.teachers if (name, task.task) in plan.read_as_loaded and name not in plan.spec.adaptors
    ]
    known = [(teacher, plan.facts[teacher]) for teacher in asked if plan.facts[teacher].classes is not None]
    for teacher, found in known[1:]:
        first, other = known[0]
        differ = _difference(other, found)
        if differ is None:
            continue
        what, sides, help_ = differ
        label = Mark(("models", teacher), sides[1], key=True)
        also = (Mark(("models", first), sides[0], key=True),)
        message = f"teachers `{first}` and `{teacher}` of stage `{task.stage}` have {what}"
        yield Finding(CODE, message, *label, also=also, help=help_)


def _difference(first: ModelFacts, second: ModelFacts) -> tuple[str, tuple[str, str], str] | None:
    train = "train one of them on the task in an earlier stage"
    if first.classes != second.classes:
        sides = (f"{first.classes} classes", f"{second.classes} classes")
        return "different numbers of classes", sides, f"teachers of a task have its classes; {train}"
    found = class_match.match(second.labels, first.labels)
    if first.by_name or second.by_name or found.relation != "order":
        return None
    mapping = class_match.mapping_line("labels", found.mapping())
    help_ = f"write `{mapping}` in the second one, so that its logits are put in the order of the task; or {train}"
    sides = (listed(first.labels), listed(second.labels))
    return "the same classes in another order", sides, help_
