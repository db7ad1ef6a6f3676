"""The check for settings without effect, and for stages with nothing to learn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kdspec.api.component import Component, Strict
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.switched_off import switched_off
from kdspec.api.spec.match import Match, matches_of
from kdspec.diagnostics.finding import Finding, Mark, SpecPath

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan, StagePlan, TaskPlan
    from kdspec.api.spec.spec import Spec, Training
    from kdspec.api.spec.spec_source import SpecSource


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Settings of stages that have no effect."""
    for stage in plan.stages:
        if not any(task.needs.learns for task in stage.tasks.values()):
            at = ("stages", stage.name, "distiller")
            message = f"stage `{stage.name}` has nothing to learn"
            yield Finding("KD306", message, at, "every weight is 0", help="give one term a weight")
            continue
        yield from _evaluation(plan.spec, stage)
        yield from _teacher_precision(stage)
        yield from _lanes(stage)
        yield from _cache(plan, stage)
        for task in stage.tasks.values():
            yield from _task(plan.source, task)


def _warning(message: str, label: Mark, *others: Mark) -> Finding:
    return Finding("KD305", message, *label, also=others, severity="warning")


def _task(source: SpecSource, task: TaskPlan) -> Iterator[Finding]:
    """Warnings for a strategy, or for its part for one of several tasks."""
    if not task.needs.learns:
        label = Mark(task.at, "every weight is 0", key=True)
        yield _warning(f"task `{task.task}` is sampled, but has no term", label)
        return
    written = task.needs.within(task.distiller)
    yield from _switched_off(source, written, task.at)
    seen: list[tuple[Match, SpecPath]] = []
    for match, keys in matches_of(written):
        place = (*task.at, *keys)
        if match.weight.always_zero():
            yield _warning("a match of weight 0 is not computed", Mark((*place, "weight"), "always 0"))
        twin = next((p for m, p in seen if m == match), None)
        if twin is not None:
            first = Mark(twin, "first here")
            yield _warning("the same match is given twice, so its weight is doubled", Mark(place, "again"), first)
        seen.append((match, place))


def _evaluation(spec: Spec, stage: StagePlan) -> Iterator[Finding]:
    training, path = stage.training, ("stages", stage.name, "training")
    stopping = Mark((*path, "early_stopping"), "needs evaluation", key=True)
    if training.evaluate is None:
        if training.early_stopping is not None:
            yield _warning(f"early stopping has no effect: stage `{stage.name}` never evaluates", stopping)
        return
    if all(spec.tasks[task].has_split("validation") is False for task in stage.tasks):
        task = next(iter(stage.tasks))
        rows = Mark(("tasks", task), "has no `validation` rows", key=True)
        asked = {"evaluate": training.evaluate.model_dump(exclude_none=True), "early_stopping": training.early_stopping}
        for key, value in asked.items():
            if value:
                label = Mark((*path, key), "needs rows to evaluate on", key=True)
                yield _warning(f"`{key}` has no effect: task `{task}` has no validation rows", label, rows)
        return
    evaluations = _evaluations(training)
    if training.early_stopping is not None and evaluations is not None:
        patience = training.early_stopping.patience
        if patience >= evaluations:
            label = Mark((*path, "early_stopping", "patience"), f"of {evaluations} evaluations")
            message = f"early stopping has no effect: a patience of {patience} is not reached before the stage ends"
            yield _warning(message, label)


def _evaluations(training: Training) -> int | None:
    """Number of evaluations of a stage, including the one at its end; None if it depends on the number of rows."""
    evaluate = training.evaluate
    if evaluate is not None and evaluate.every_steps is not None:
        return None if training.steps is None else math.ceil(training.steps / evaluate.every_steps)
    if evaluate is None or training.epochs is None:
        return None
    return math.ceil(training.epochs / (evaluate.every_epochs or 1))


def _teacher_precision(stage: StagePlan) -> Iterator[Finding]:
    read = any(_reads_teachers(task) for task in stage.tasks.values())
    if stage.training.teacher_precision is None or (stage.teachers and read):
        return
    why = ("not run", "reads nothing of its teachers") if stage.teachers else ("no teacher", "has no frozen teacher")
    label = Mark(("stages", stage.name, "training", "teacher_precision"), why[0], key=True)
    yield _warning(f"`teacher_precision` has no effect: stage `{stage.name}` {why[1]}", label)


def _reads_teachers(task: TaskPlan) -> bool:
    needs = task.needs
    return bool(needs.matches) or any(needs.reads.get(name) or needs.optional.get(name) for name in needs.teachers)


def _lanes(stage: StagePlan) -> Iterator[Finding]:
    training, path = stage.training, ("stages", stage.name, "training")
    if training.lanes == 1:
        return
    against: tuple[tuple[str, bool, str], ...] = (
        ("gradient_checkpointing", training.gradient_checkpointing, "recomputes dropout masks"),
        ("precision", training.precision == "fp16", "scales the loss"),
        ("compile", training.compile, "runs in one thread"),
    )
    for key, given, why in against:
        if given:
            where, label = Mark((*path, key), why), Mark((*path, "lanes"), "cannot be combined with it", key=True)
            message = f"`lanes` has no effect: stage `{stage.name}` computes one micro-batch after another"
            yield _warning(message, label, where)


def _cache(plan: Plan, stage: StagePlan) -> Iterator[Finding]:
    path = ("stages", stage.name, "training", "teacher_cache")
    settings = stage.training.teacher_cache
    written = plan.source.at(path)
    keys = written if isinstance(written, Mapping) else ()
    others = [key for key in keys if key != "use" and not _is_default(settings, key)]
    if not stage.teachers:
        if settings.use == "on" or others:
            label = Mark(path, "no teacher", key=True)
            yield _warning(f"`teacher_cache` has no effect: stage `{stage.name}` has no frozen teacher", label)
    elif settings.use == "off" and others:
        off = Mark((*path, "use"), "the cache is off")
        yield _warning(f"`{others[0]}` has no effect", Mark((*path, others[0]), "not used", key=True), off)
    elif settings.use == "on":
        for task in stage.tasks:
            if (why := plan.spec.tasks[task].varies()) is not None:
                also = (Mark(("tasks", task), why, key=True),)
                message = f"the teachers of stage `{stage.name}` cannot be cached: in task `{task}` {why}"
                help_ = "`auto` caches only what can be cached"
                yield Finding("KD512", message, (*path, "use"), "on", also=also, help=help_)


def _switched_off(source: SpecSource, distiller: Any, path: SpecPath) -> Iterator[Finding]:
    """Settings of a group whose weight is 0."""
    for name in type(distiller).model_fields:
        group = getattr(distiller, name)
        zero = switched_off(group) if isinstance(group, Strict) else None
        if zero is None:
            continue
        key, weight = zero
        off = Mark((*path, name, key), "always 0")
        if isinstance(source.at(off.at), Mapping) and weight.to_plain() is None:
            yield _warning(f"the schedule is 0 throughout, so `{name}` is not computed", off)
        written = source.at((*path, name))
        keys = written if isinstance(written, Mapping) else ()
        others = [other for other in keys if other != key and not _is_default(group, other)]
        if others:
            named = ", ".join(f"`{key}`" for key in others)
            label = Mark((*path, name, others[0]), "not used", key=True)
            yield _warning(f"{named} of `{name}` {'has' if len(others) == 1 else 'have'} no effect", label, off)


def _is_default(group: Any, key: str) -> bool:
    """Whether a parameter has its default; a complete spec writes all defaults."""
    if key not in type(group).model_fields:
        return False
    value = getattr(group, key)
    plain = value.written() if isinstance(value, Component) else value
    return bool(plain == type(group).model_fields[key].default)
