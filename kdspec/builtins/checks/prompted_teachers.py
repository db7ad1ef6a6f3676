"""The check for models that answer prompts: they only teach, and tasks whose texts and classes they ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import Finding, Mark
from kdspec.hf.prompted.prompted_model import PromptedModel

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Stages that train such a model, and tasks that do not fit its prompt."""
    for stage in plan.stages:
        student = plan.spec.models[stage.student]
        if isinstance(student, PromptedModel):
            message = f"stage `{stage.name}` trains `{stage.student}`, and a model of `{student.name}` only teaches"
            also = (Mark(stage.at, "trains it", key=True),)
            help_ = "name it as the teacher of another model"
            yield Finding("KD306", message, ("models", stage.student), "only teaches", key=True, also=also, help=help_)
    taught = (
        (part.task, teacher) for stage in plan.stages for part in stage.tasks.values() for teacher in part.teachers
    )
    for task, teacher in dict.fromkeys(taught):
        component = plan.spec.models[teacher]
        if isinstance(component, PromptedModel):
            yield from _of_task(plan, component, teacher, task)


def _of_task(plan: Plan, component: PromptedModel, model: str, task: str) -> Iterator[Finding]:
    taught = plan.spec.tasks[task]
    also = (Mark(("tasks", task), "learns from it", key=True),)
    if (columns := taught.prompt_columns()) is None:
        message = f"`{model}` answers a prompt with one class, and task `{task}` is a `{taught.name}`"
        help_ = "a model that answers prompts teaches a task `sequence_classification`"
        yield Finding("KD314", message, ("models", model), "teaches", key=True, also=also, help=help_)
        return
    try:
        template = component.template(plan.context(model))
        built = taught.without_rows()
    except Fault:  # the check of the model, or the rehearsal, reports it
        return
    faults = [*component.no_columns(template, columns, task)]
    if built is not None and built.head.labels:
        faults += component.unfit(template, built.head.labels, task)
    for fault in faults:
        at = ("models", model, component.name, *fault.at)
        yield Finding(
            fault.code, fault.message, at, key=fault.key, also=also, notes=fault.notes, help=fault.help, fix=fault.fix
        )
