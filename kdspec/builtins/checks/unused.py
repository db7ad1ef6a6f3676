"""The check for unused models, tasks and augmentations, and for teachers with randomly initialised heads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.diagnostics.finding import Finding
from kdspec.hf.loaded_heads import has_head, other_kind
from kdspec.hf.scoring.reads import HEAD

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan, TaskPlan
    from kdspec.diagnostics.finding import SpecPath


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Models and tasks of no stage, augmentations without a teacher, and untrained teachers."""
    yield from _untrained(plan)
    yield from _unused(plan)
    yield from _augmentations(plan)


def _warning(message: str, at: SpecPath, label: str, help_: str | None = None) -> Finding:
    return Finding("KD305", message, at, label, key=True, help=help_, severity="warning")


def _untrained(plan: Plan) -> Iterator[Finding]:
    """Teachers with a head that is in no file, by their configurations, and that no stage trains."""
    trained: set[str] = set()
    for stage in plan.stages:
        for task in stage.tasks.values():
            yield from _untrained_for(plan, task, trained)
        trained.add(stage.student)


def _untrained_for(plan: Plan, task: TaskPlan, trained: set[str]) -> Iterator[Finding]:
    head = plan.spec.tasks[task.task].head
    for teacher in task.teachers:
        if head is None or teacher in trained:
            continue
        known = plan.facts[teacher].architecture
        heads = "logits" in task.needs.reads.get(teacher, frozenset())
        if known is None or has_head(known, head) or (known and not heads) or other_kind(known, head):
            continue  # a head of another kind is an error of its own
        if known and head == HEAD:  # that of a cross-encoder too, and a bi-encoder needs none
            continue
        why = f"its files are of a `{known}`" if known else "all its weights are randomly initialised"
        message = f"the predictions of teacher `{teacher}` are noise: no stage trains it, and {why}"
        help_ = f"train it in an earlier stage with `distiller: {{supervised: {{model: {teacher}}}}}`"
        yield _warning(message, ("models", teacher), why, help_)


def _unused(plan: Plan) -> Iterator[Finding]:
    tasks = dict.fromkeys(task for stage in plan.stages for task in stage.tasks)
    used = {model for stage in plan.stages for model in stage.models}
    used |= {model for task in tasks for model in plan.spec.tasks[task].models_named().values()}
    waiting = list(used)
    while waiting:
        for other in plan.spec.models[waiting.pop()].uses():
            if other not in used:
                used.add(other)
                waiting.append(other)
    for name in plan.spec.models:
        if name not in used:
            yield _warning(f"model `{name}` is not used", ("models", name), "in no stage")
    for name in plan.spec.tasks:
        if name not in tasks:
            yield _warning(f"task `{name}` is not used", ("tasks", name), "in no stage")


def _augmentations(plan: Plan) -> Iterator[Finding]:
    """Augmentations of tasks without a teacher. The label of a changed text may be wrong, so only a teacher can label it."""
    with_teacher = {task for stage in plan.stages if stage.teachers for task in stage.tasks}
    for name, task in plan.spec.tasks.items():
        key = task.augmentations()
        if key is not None and name not in with_teacher:
            at = ("tasks", name, task.name, key)
            message = f"`{key}` has no effect: no stage of the task has a teacher"
            yield _warning(message, at, "no teacher labels these texts")
