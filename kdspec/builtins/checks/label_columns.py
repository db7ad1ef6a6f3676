"""The checks of labels: `train` has their columns if a loss reads them, and without any a teacher names the classes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.data.answers.recorded.first_answers import first_answers
from kdspec.data.class_match import line
from kdspec.data.columns import ColumnPlace, named, no_column
from kdspec.data.label_names import SUSPECT
from kdspec.data.labels.taught_classes import HELP
from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from kdspec.api.kinds.kinds import Task
    from kdspec.api.plan.plan import Plan, TaskPlan

_WITHOUT = MappingProxyType(
    {
        "validation": "the student of the last step is kept, and the table has no metrics of these rows",
        "test": "the table has no metrics of these rows",
    }
)
_BESIDE = "its metrics are measured beside the teacher"


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Splits without the columns of the labels, as far as the files show them."""
    for name, task in plan.spec.tasks.items():
        used = [stage.tasks[name] for stage in plan.stages if name in stage.tasks]
        wanted = task.label_columns()
        if not used:
            continue
        if not wanted:
            yield from _unlabelled(plan, name, task, used)
            continue
        context = BuildContext(folder=plan.source.folder, seed=plan.spec.seed)
        splits = _columns(task, context)
        for place, column in wanted.items():
            at = ("tasks", name, task.name, *place)
            if column not in splits.get("train", (column,)):
                read = any(part.needs.reads_labels for part in used)
                absent = _absent(task, context, splits["train"], place, column)
                path = ("tasks", name, task.name, *absent.at)
                message = absent.message if read else f"{absent.message}; no loss reads its labels"
                finding = Finding("KD312" if read else SUSPECT, message, path, help=absent.help, fix=absent.fix)
                yield finding if read else replace(finding, severity="warning")
                if read:
                    continue
            beside = any(part.teachers for part in used) and task.measured_beside
            for split, what in _WITHOUT.items():
                if column not in splits.get(split, (column,)):
                    message = (
                        f"the split `{split}` has no column `{excerpt(column)}`, so no row of it has a label: "
                        f"{_BESIDE if beside else what}"
                    )
                    yield Finding(SUSPECT, message, at, severity="warning")


def _unlabelled(plan: Plan, name: str, task: Task, used: Sequence[TaskPlan]) -> Iterator[Finding]:
    """What a task without a column of labels lacks: a loss may read them, and nothing may name its classes."""
    if task.has_labels():
        return
    for part in used:
        if part.needs.reads_labels and not part.needs.hard_labels:  # without hard labels, which the plan refuses itself
            message = f"a loss of stage `{part.stage}` reads labels, and task `{name}` has none"
            also = (Mark(("tasks", name), "has no labels", key=True),)
            yield Finding(
                "KD312", message, part.at, also=also, help="name their column in the task, or use another loss"
            )
    built = task.without_rows() if task.labelled else None
    if built is None or built.head.labels:
        return
    facts = [(model, plan.facts[model]) for part in used for model in part.models]
    unknown = [model for model, of in facts if of.architecture is None and of.classes is None]
    downloads = any(plan.spec.models[model].has_weights for model in unknown)
    if not downloads and not any((of.classes or 0) > 1 for _, of in facts):
        message = (
            f"nothing names the classes of task `{name}`: its rows have no labels, and no model has a head of classes"
        )
        found = next(filter(None, (_answered(plan, model, name) for model in unknown)), ())
        help_ = f"name them in the order of the logits: `{line('labels', found)}`, as in the first answers"
        yield Finding("KD312", message, ("tasks", name, task.name), key=True, help=help_ if found else HELP)


def _answered(plan: Plan, model: str, task: str) -> Sequence[str]:
    """The classes in the first recorded answers of a teacher; empty if they are not known."""
    component, context = plan.spec.models[model], BuildContext(folder=plan.source.folder, seed=plan.spec.seed)
    if component.has_weights:
        return ()
    try:
        rows = first_answers(component.records().values(), plan.spec.tasks[task], task, context)
        return () if rows is None else component.classes_in(rows)
    except Fault:  # the check of the answers reports it
        return ()


def _absent(task: Task, context: BuildContext, names: Collection[str], at: ColumnPlace, column: str) -> Fault:
    """The fault of `train` without the column that the task's parameter `at` names; of its data set, if that shows why."""
    absent = no_column(names, "train", column, at, asked=named(task))
    why = task.why_no_column(context, "train", column)
    if why is None:
        return absent
    return Fault(absent.code, f"{absent.message}: {why.message}", why.at, help=why.help or absent.help)


def _columns(task: Task, context: BuildContext) -> Mapping[str, Collection[str]]:
    """The columns of each split; empty if they are not known, or the data set has a fault, which its task reports."""
    try:
        return task.column_names(context)
    except Fault:
        return {}
