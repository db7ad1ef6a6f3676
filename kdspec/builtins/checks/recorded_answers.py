"""The check for models without weights, whose answers are columns of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.data.answers.recorded.first_answers import first_answers
from kdspec.data.columns import missing
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import Finding, Mark, SpecPath

if TYPE_CHECKING:
    from kdspec.api.kinds.kinds import Task
    from kdspec.api.plan.plan import Plan


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Stages that train such a model, tasks that it cannot teach, columns that rows lack, and wrong answers in the first rows."""
    seen: set[tuple[str, str]] = set()
    for stage in plan.stages:
        if not plan.spec.models[stage.student].has_weights:
            name = plan.spec.models[stage.student].name
            message = f"stage `{stage.name}` trains `{stage.student}`, and a model of `{name}` has no weights"
            also = (Mark(stage.at, "trains it", key=True),)
            help_ = "name it as the teacher of another model"
            yield Finding("KD306", message, ("models", stage.student), "only teaches", key=True, also=also, help=help_)
        for task in stage.tasks:
            for teacher in stage.tasks[task].teachers:
                if not plan.spec.models[teacher].has_weights and (teacher, task) not in seen:
                    seen.add((teacher, task))
                    yield from _of_teacher(plan, teacher, task)


def _of_teacher(plan: Plan, model: str, task: str) -> Iterator[Finding]:
    component, taught = plan.spec.models[model], plan.spec.tasks[task]
    also = (Mark(("tasks", task), "learns from it", key=True),)
    unfit = component.teaches(taught.logits) or _untaught(taught)
    if unfit is not None:
        message = f"`{model}` cannot teach task `{task}`: {unfit.message}"
        at = ("models", model, component.name, *unfit.at) if unfit.at else ("models", model)
        yield Finding(
            unfit.code, message, at, "" if unfit.at else "teaches", key=not unfit.at, also=also, help=unfit.help
        )
    elif taught.answered is None:
        yield from _of_scores(plan, model, task)
    elif (augments := taught.augmentations()) is not None:
        message = f"`{model}` has answers to the rows as they are, and task `{task}` changes them"
        place = (Mark(("models", model), "its answers are recorded", key=True),)
        at = ("tasks", task, taught.name, augments)
        yield Finding("KD313", message, at, also=place, help=f"leave out `{augments}`; or name a teacher with weights")
    else:
        yield from _of_rows(plan, model, task)


def _untaught(task: Task) -> Fault | None:
    """Why no recorded answers can teach a task."""
    if task.answered is not None or task.answer_columns() is not None:
        return None
    help_ = "recorded answers teach classes, labels, numbers, tags by word, and the scores of candidates"
    return Fault("KD313", f"a task `{task.name}` takes no recorded answers", help=help_)


def _of_scores(plan: Plan, model: str, task: str) -> Iterator[Finding]:
    """Scores of candidates, whose columns the model names or the task."""
    component = plan.spec.models[model]
    own, named = plan.spec.tasks[task].answer_columns() or (), tuple(component.records().values())
    label = Mark(("models", model), "teaches", key=True)
    also = (Mark(("tasks", task), "learns from it", key=True),)
    if not own:
        message = f"the recorded scores of `{model}` have no column: neither `{model}` nor task `{task}` names one"
        help_ = f"write `{{{component.name}: {{scores: ...}}}}` with the column of the rows"
        yield Finding("KD102", message, *label, also=also, help=help_)
    elif named and named != tuple(own):
        of_model, of_task = (", ".join(f"`{each}`" for each in columns) for columns in (named, own))
        message = f"`{model}` names its scores {of_model}, and task `{task}` reads {of_task}"
        at = ("models", model, component.name, "scores")
        yield Finding("KD107", message, at, also=also, help="leave one of them out")


def _of_rows(plan: Plan, model: str, task: str) -> Iterator[Finding]:
    """The columns of `train`, and the answers in its first rows, as far as they can be read before a run."""
    component, taught = plan.spec.models[model], plan.spec.tasks[task]
    at = ("models", model, component.name)
    context = BuildContext(folder=plan.source.folder, seed=plan.spec.seed)
    try:
        columns = taught.column_names(context)
        rows = first_answers(component.records().values(), taught, task, context)
    except Fault:  # the check of the task reports it
        return
    train = {split: names for split, names in columns.items() if split == "train"}
    yield from (_found(fault, at) for fault in missing(train, component.records(), {}, component.records().values()))
    if rows is None:
        return
    try:
        component.answers(rows)  # notes about all rows need all of them, and are left to the run
    except Fault as fault:
        yield _found(fault, at)


def _found(fault: Fault, at: SpecPath) -> Finding:
    """The finding about the parameters of a model."""
    place = (*at, *fault.at)
    return Finding(fault.code, fault.message, place, notes=fault.notes, help=fault.help, fix=fault.fix)
