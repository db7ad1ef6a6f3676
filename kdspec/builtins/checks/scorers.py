"""The check of models that score candidates: each must define how it reads them, and no other model may."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.diagnostics.finding import Finding, Mark
from kdspec.hf.scoring.reads import HEAD, READING_HELP, UNKNOWN_READING
from kdspec.hf.scoring.scorer_settings import ScoresCandidates

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan

_KEYS = ("reads", "similarity", "scale")


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Models of rankings without a defined way of reading, and models of other tasks that set one."""
    for model, tasks in plan.tasks_of.items():
        component = plan.spec.models[model]
        at = ("models", model, component.name)
        ranking = [task for task in tasks if plan.spec.tasks[task].head == HEAD]
        scores = isinstance(component, ScoresCandidates)
        written = [key for key, value in component if scores and key in _KEYS and value is not None]
        form = component.form(plan.context(model))
        others = [key for key in written if key != "reads"]
        if not ranking and written:
            message = f"`{written[0]}` is for tasks that rank candidates, and `{model}` is in none"
            also = (Mark(("tasks", tasks[0]), "its task", key=True),) if tasks else ()
            yield Finding("KD503", message, (*at, written[0]), "of no use here", also=also, help="remove it")
        elif ranking and not form:
            also = (Mark(("tasks", ranking[0]), "ranks candidates", key=True),)
            help_ = READING_HELP if scores else f"`{component.name}` has no way to score them: take another model"
            yield Finding("KD503", UNKNOWN_READING.format(name=model), at, also=also, help=help_)
        elif form == "pair" and others:
            message = f"`{others[0]}` is for models that read each text alone, and `{model}` is a cross-encoder"
            yield Finding(
                "KD503", message, (*at, others[0]), "of no use here", help="remove it, or write `reads: each`"
            )
