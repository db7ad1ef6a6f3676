"""The rule of losses over whole steps: the student runs twice, which some settings do not allow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Stages with a match or hard labels over whole steps, and a setting that does not allow it."""
    for stage in plan.stages:
        whole = [match for match in stage.matches if match.loss.scope == "step" and not match.weight.always_zero()]
        form = plan.spec.models[stage.student].form(plan.context(stage.student))
        across = [
            name
            for name, task in stage.tasks.items()
            if task.needs.hard_labels and plan.spec.tasks[name].hard_scope(form) == "step"
        ]
        if whole:
            loss = Mark((*whole[0].path, "loss"), "of the scope `step`")
        elif across:
            loss = Mark(("tasks", across[0]), "has hard labels over whole steps", key=True)
        else:
            continue
        for key, value, refused in (
            ("precision", "fp16", stage.training.precision == "fp16"),
            ("compile", "true", stage.training.compile),
        ):
            if refused:
                setting = f"{key}: {value}"
                yield Finding(
                    "KD516",
                    f"a loss of the scope `step` cannot be computed with `{setting}`",
                    ("stages", stage.name, "training", key),
                    "does not allow it",
                    also=(loss,),
                    help=f"leave out `{setting}`",
                )
