"""The check that the models that search, or find hard negatives, give a vector for each text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan, StagePlan
    from kdspec.diagnostics.finding import SpecPath

_CODE = "KD319"
_FORM = "each"
_HELP = "only a model with `reads: each` gives a vector for each text"


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Models that mine and cannot, and metrics of a search that a student does not have."""
    used = {name for stage in plan.stages for name in stage.tasks}
    for name, task in plan.spec.tasks.items():
        for below, model in task.models_named().items() if name in used else ():
            yield from _asked(plan, name, model, ("tasks", name, task.name, *below))
    for stage in plan.stages:
        yield from _selected(plan, stage)


def _asked(plan: Plan, task: str, model: str, at: SpecPath) -> Iterator[Finding]:
    """Whether a model can give the vectors that a task makes its rows with."""
    stage = next((stage for stage in plan.stages if model in {stage.student, *stage.needs.changing}), None)
    if _form(plan, model, task) != _FORM:
        message = f"`{model}` gives no vectors of texts alone, so that it cannot find hard negatives"
        also = (Mark(("models", model), "reads a query and a document together", key=True),)
        yield Finding(_CODE, message, *Mark(at, "searches texts"), also=also, help=_HELP)
    elif stage is not None:
        message = f"`{model}` cannot find hard negatives: rows are made before stage `{stage.name}` trains it"
        also = (Mark(("stages", stage.name), f"trains `{model}`", key=True),)
        help_ = "train it in a spec of its own, and load the trained folder here with `path`"
        yield Finding(_CODE, message, *Mark(at, "not trained yet"), also=also, help=help_)
    elif plan.facts[model].architecture == "":
        message = (
            f"`{model}` cannot find hard negatives: all its weights are randomly initialised, and no stage trains it"
        )
        yield Finding(_CODE, message, *Mark(at, "not trained"), help="name a model whose files have weights")


def _selected(plan: Plan, stage: StagePlan) -> Iterator[Finding]:
    """Whether the student has the metrics of a search. One that reads pairs beside one that searches, such as a
    teacher that an earlier stage trains, is nothing to tell.
    """
    evaluate = stage.training.evaluate
    for name in stage.tasks:
        task = plan.spec.tasks[name]
        searched = {f"{name}.{each}" if stage.several else each for each in task.search_metrics()}
        if not searched or _form(plan, stage.student) == _FORM:
            continue
        at: SpecPath = ("tasks", name, task.name)
        if evaluate is not None and evaluate.metric in searched:
            message = f"`{evaluate.metric}` cannot select `{stage.student}`, which gives no vectors of texts alone"
            place = ("stages", stage.name, "training", "evaluate", "metric")
            yield Finding(
                _CODE, message, *Mark(place, "a metric of a search"), help=f"{_HELP}; others rank given candidates"
            )
            continue
        if any(name in other.tasks and _form(plan, other.student) == _FORM for other in plan.stages):
            continue
        message = f"a corpus cannot be searched with `{stage.student}`: metrics of the search are left out"
        note = "a model that reads pairs would score each query with each document; it ranks the candidates of the rows"
        yield Finding(_CODE, message, *Mark(at, key=True), notes=(note,), help=_HELP, severity="warning")


def _form(plan: Plan, model: str, task: str | None = None) -> str:
    """How a model reads rows: those of its own tasks, or those of a task that it makes rows for."""
    known = plan if task is None else replace(plan, tasks_of={**plan.tasks_of, model: (task,)})
    return plan.spec.models[model].form(known.context(model))
