"""The check for models without weights, whose answers are columns of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.losses import LOGIT_KINDS
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Stages that train such a model, and tasks that have no columns with its answers."""
    for stage in plan.stages:
        if not plan.spec.models[stage.student].has_weights:
            name = plan.spec.models[stage.student].name
            message = f"stage `{stage.name}` trains `{stage.student}`, and a model of `{name}` has no weights"
            also = (Mark(stage.at, "trains it", key=True),)
            help_ = "name it as the teacher of another model"
            yield Finding("KD306", message, ("models", stage.student), "only teaches", key=True, also=also, help=help_)
        for task in stage.tasks:
            for teacher in stage.tasks[task].teachers:
                if not plan.spec.models[teacher].has_weights:
                    yield from _of_teacher(plan, teacher, task)


def _of_teacher(plan: Plan, model: str, task: str) -> Iterator[Finding]:
    component, taught = plan.spec.models[model], plan.spec.tasks[task]
    own, named = taught.answer_columns(), tuple(component.records())
    label = Mark(("models", model), "teaches", key=True)
    also = (Mark(("tasks", task), "learns from it", key=True),)
    if own is None:
        has = LOGIT_KINDS[taught.logits or "classes"]
        message = f"`{model}` has recorded scores of candidates, and task `{task}` has {has}"
        yield Finding("KD313", message, *label, also=also, help="recorded scores teach a task `ranking`")
    elif not own:
        message = f"the recorded scores of `{model}` have no column: neither `{model}` nor task `{task}` names one"
        help_ = f"write `{{{component.name}: {{scores: ...}}}}` with the column of the rows"
        yield Finding("KD102", message, *label, also=also, help=help_)
    elif named and named != tuple(own):
        of_model, of_task = (", ".join(f"`{each}`" for each in columns) for columns in (named, own))
        message = f"`{model}` names its scores {of_model}, and task `{task}` reads {of_task}"
        at = ("models", model, component.name, "scores")
        yield Finding("KD107", message, at, also=also, help="leave one of them out")
