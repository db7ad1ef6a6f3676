"""The check that a stage that calibrates its student has classes, and validation rows with their labels."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from kdspec.api.kinds.kinds import Task
    from kdspec.api.plan.plan import Plan, StagePlan


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Stages with `calibrate` that have nothing to fit."""
    for stage in plan.stages:
        if stage.training.calibrate is not None:
            yield from _stage(plan, stage)


def _stage(plan: Plan, stage: StagePlan) -> Iterator[Finding]:
    path = ("stages", stage.name, "training", "calibrate")
    tasks = {name: plan.spec.tasks[name] for name in stage.tasks}
    classes = {name: task for name, task in tasks.items() if task.has_classes()}
    if not classes:
        name, task = next(iter(tasks.items()))
        also = (Mark(("tasks", name, task.name), f"`{task.name}` has no classes", key=True),)
        message = f"stage `{stage.name}` has no classes whose confidence could be calibrated"
        help_ = "leave out `calibrate`; it is for `sequence_classification`, `multi_label` and `token_classification`"
        yield Finding("KD321", message, path, also=also, help=help_)
    context = BuildContext(folder=plan.source.folder, seed=plan.spec.seed)
    for name, task in classes.items():
        if task.has_split("validation") is False:
            also = (Mark(("tasks", name), "has no `validation` rows", key=True),)
            message = f"task `{name}` has no validation rows, to which the confidence could be fitted"
            help_ = "add `validation`, such as `validation: 0.1` for a share of the rows of `train`"
            yield Finding("KD321", message, path, also=also, help=help_)
        elif (column := _missing(task, context)) is not None:
            also = (Mark(("tasks", name), f"no `{excerpt(column)}` in `validation`", key=True),)
            message = f"the validation rows of task `{name}` have no labels, to which the confidence could be fitted"
            yield Finding("KD321", message, path, also=also, help="use validation rows with labels")


def _missing(task: Task, context: BuildContext) -> str | None:
    """A column of labels that the validation rows lack, as far as the files show them."""
    columns: Mapping[str, Collection[str]] = {}
    try:
        columns = task.column_names(context)
    except Fault:  # which its task reports
        return None
    there = columns.get("validation")
    return None if there is None else next((name for name in task.label_columns().values() if name not in there), None)
