"""The check that the student of a stage is used: by a later stage, in the comparison at the end, or as the result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan, StagePlan
    from kdspec.api.spec.spec import Spec


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Stages with a student that nothing uses afterwards."""
    stages = plan.stages
    final = ([stage for stage in stages if stage.teachers] or list(stages))[-1]
    for index, stage in enumerate(stages):
        later = _with_sources(plan.spec, (model for after in stages[index + 1 :] for model in after.models))
        if stage.student in {*later, final.student}:
            continue
        before = [earlier for earlier in stages[:index] if stage.student in earlier.teachers]
        if before:
            yield _too_late(stage, before[-1].name)
        elif not _compared(plan.spec, stage):
            message = f"nothing uses the model that stage `{stage.name}` trains: it is not the result, and no split compares it"
            label = Mark(("stages", stage.name), f"trains `{stage.student}`", key=True)
            yield Finding("KD305", message, *label, severity="warning")


def _too_late(stage: StagePlan, earlier: str) -> Finding:
    message = f"`{stage.student}` is trained after it was used as a teacher, and no later stage uses it"
    label = Mark(("stages", stage.name), f"trains `{stage.student}`", key=True)
    also = (Mark(("stages", earlier), f"learns from `{stage.student}`", key=True),)
    help_ = f"put stage `{stage.name}` before `{earlier}`"
    return Finding("KD305", message, *label, also=also, help=help_, severity="warning")


def _with_sources(spec: Spec, models: Iterable[str]) -> set[str]:
    """The models, and those that they are made from."""
    found: set[str] = set()
    waiting = list(models)
    while waiting:
        model = waiting.pop()
        if model not in found:
            found.add(model)
            waiting += spec.models[model].uses()
    return found


def _compared(spec: Spec, stage: StagePlan) -> bool:
    """Whether there may be rows to compare models on at the end."""
    tasks = [spec.tasks[name] for name in stage.tasks]
    return any(task.has_split(split) is not False for task in tasks for split in ("validation", "test"))
