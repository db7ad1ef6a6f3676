"""The rules of a spec beyond its shape: what refers to what, and what would have no effect."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kdspec.api.component import Component
from kdspec.api.context import ModelContext
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds import Schedule
from kdspec.diagnostics.diagnostic import closest
from kdspec.diagnostics.finding import Finding, Mark
from kdspec.hf.configuration import architecture

if TYPE_CHECKING:
    from kdspec.api.kinds import Distiller
    from kdspec.api.spec_source import SpecSource
    from kdspec.api.step import Needs
    from kdspec.diagnostics.finding import SpecPath
    from kdspec.spec.spec import Spec, Training


@hookimpl
def kdspec_check(spec: Spec, source: SpecSource) -> list[Finding]:
    """Names that refer to nothing, models made of each other, and settings without effect."""
    found = [*_model_references(spec, source), *_adaptors(spec)]
    for stage in spec.stages:
        found += _stage_references(spec, source, stage)
    if found:
        return found
    found += _circles(spec)
    for stage in spec.stages:
        found += _metric(spec, stage)
        found += _without_effect(spec, source, stage)
    return [*found, *_noise(spec, source), *_unused(spec), *_augmentations(spec)]


def _unknown(kind: str, name: str, known: Iterable[str], path: SpecPath, *, key: bool = False) -> Finding:
    names = list(known)
    label, message = Mark(path, f"no {kind} of this spec", key), f"unknown {kind} `{name}`"
    guess = closest(name, names)
    if guess is not None:
        return Finding("KD204", message, *label, help=f"did you mean `{guess}`?", fix=(name, guess))
    note = "declared here: " + ", ".join(f"`{n}`" for n in names)
    return Finding("KD204", message, *label, notes=(note,))


def _model_references(spec: Spec, source: SpecSource) -> Iterator[Finding]:
    for name, model in spec.models.items():
        path = ("models", name, model.name)
        for used in model.uses():
            if used not in spec.models:
                yield _unknown("model", used, spec.models, source.below(path, used))


def _adaptors(spec: Spec) -> Iterator[Finding]:
    for name in spec.adaptors:
        if name not in spec.models:
            yield _unknown("model", name, spec.models, ("adaptors", name), key=True)


def _stage_references(spec: Spec, source: SpecSource, stage: str) -> Iterator[Finding]:
    distiller = spec.stages[stage].distiller
    needs = distiller.needs()
    path = ("stages", stage, "distiller", distiller.name)
    for model in dict.fromkeys((needs.student, *needs.teachers)):
        if model not in spec.models:
            yield _unknown("model", model, spec.models, source.below(path, model))
    for task in needs.tasks:
        if task not in spec.tasks:
            at = needs.parts[task].at if task in needs.parts else ()
            place = (*path, *at) if at else source.below(path, task)
            yield _unknown("task", task, spec.tasks, place, key=bool(at))
    yield from _proportions(source, path, needs)
    if not needs.tasks and len(spec.tasks) > 1:
        label = Mark(path, "which task?")
        help_ = "write `task:` with one of " + ", ".join(f"`{name}`" for name in spec.tasks)
        yield Finding("KD204", f"stage `{stage}` does not say which task it learns", *label, help=help_)
    if needs.student in needs.teachers:
        label = Mark(source.below(path, needs.student), "teacher and student")
        yield Finding("KD307", f"`{needs.student}` cannot be its own teacher", *label)


def _proportions(source: SpecSource, path: SpecPath, needs: Needs) -> Iterator[Finding]:
    """Whether numbers for tasks are for each of these and for no other."""
    given = needs.sampling.proportions if needs.sampling is not None else None
    if given is None:
        return
    place = source.named(path, "proportions")
    for task in given:
        if task not in needs.parts:
            yield _unknown("task", task, needs.parts, (*place, task), key=True)
    if missing := [task for task in needs.parts if task not in given]:
        named = ", ".join(f"`{task}`" for task in missing)
        label = Mark(place, f"says nothing of {named}", key=True)
        yield Finding("KD102", f"missing key {named} in `proportions`", *label)


def _metrics(spec: Spec, stage: str) -> tuple[str, list[str] | None]:
    """Whose metrics `evaluate` may choose by, in words, and which; None where only the rows tell."""
    needs = spec.stages[stage].distiller.needs()
    if not needs.parts:
        task = (needs.tasks or tuple(spec.tasks))[0]
        names = spec.tasks[task].metric_names()
        return f"task `{task}`", None if names is None else [*names, "loss"]
    every = {task: spec.tasks[task].metric_names() for task in needs.parts}
    if None in every.values():
        return f"stage `{stage}`", None
    listed = [f"{task}.{name}" for task, names in every.items() for name in (*(names or ()), "loss")]
    return f"stage `{stage}`", [*listed, "mean"]


def _metric(spec: Spec, stage: str) -> Iterator[Finding]:
    evaluate = spec.stages[stage].training.evaluate
    if evaluate is None or evaluate.metric is None:
        return
    whose, names = _metrics(spec, stage)
    if names is None or evaluate.metric in names:
        return
    path = ("stages", stage, "training", "evaluate", "metric")
    guess = closest(evaluate.metric, names)
    help_ = f"did you mean `{guess}`?" if guess is not None else None
    known = ", ".join(f"`{name}`" for name in names)
    yield Finding(
        "KD204",
        f"unknown metric `{evaluate.metric}`",
        path,
        f"no metric of {whose}",
        notes=() if guess is not None else (f"its metrics are {known}",),
        help=help_,
        fix=(evaluate.metric, guess) if guess is not None else None,
    )


def _circles(spec: Spec) -> Iterator[Finding]:
    reported: set[str] = set()
    for name in spec.models:
        chain = [name]
        while chain[-1] not in reported:
            following = spec.models[chain[-1]].uses()
            if not following:
                break
            if following[0] in chain:
                circle = [*chain[chain.index(following[0]) :], following[0]]
                reported.update(circle)
                label = Mark(("models", name), "begins here", key=True)
                yield Finding("KD307", "models are made of each other: " + " → ".join(f"`{m}`" for m in circle), *label)
                break
            chain.append(following[0])


def _without_effect(spec: Spec, source: SpecSource, stage: str) -> Iterator[Finding]:
    planned = spec.stages[stage]
    training, path = planned.training, ("stages", stage)
    needs = planned.distiller.needs()
    reads = any(needs.reads.get(model) for model in (needs.student, *needs.teachers))
    if not (reads or needs.hard_labels or needs.matches):
        label = Mark((*path, "distiller"), "every weight is 0")
        yield Finding("KD306", f"stage `{stage}` has nothing to learn", *label, help="give one term a weight")
        return
    yield from _evaluation(spec, stage, training)
    yield from _teacher_precision(spec, stage, training)
    yield from _lanes(stage, training)
    yield from _cache(spec, source, stage, training)
    for part in needs.each:
        yield from _part_without_effect(source, part, planned.distiller, (*path, "distiller", planned.distiller.name))


def _part_without_effect(source: SpecSource, needs: Needs, distiller: Distiller, path: SpecPath) -> Iterator[Finding]:
    """Of a strategy, or of what it has for one of several tasks."""
    written, path = needs.within(distiller), (*path, *needs.at)
    if needs.at and not (any(needs.reads.values()) or needs.hard_labels or needs.matches):
        label = Mark(path, "every weight is 0", key=True)
        yield _warning(f"task `{needs.tasks[0]}` is drawn, and nothing of it is learnt", label)
        return
    yield from _switched_off(source, written, path)
    seen: list[tuple[Any, Any]] = []
    for index, match in enumerate(getattr(written, "matches", []) or []):
        place = (*path, "matches", index)
        if match.weight.always_zero():
            yield _warning("a match of weight 0 is not computed", Mark((*place, "weight"), "always 0"))
        twin = next((p for m, p in seen if m == match), None)
        if twin is not None:
            first = Mark(twin, "first here")
            yield _warning("the same match is given twice, so it counts twice", Mark(place, "again"), first)
        seen.append((match, place))


def _evaluation(spec: Spec, stage: str, training: Training) -> Iterator[Finding]:
    path = ("stages", stage, "training")
    stopping = Mark((*path, "early_stopping"), "needs evaluation", key=True)
    if training.evaluate is None:
        if training.early_stopping is not None:
            yield _warning(f"early stopping has no effect: stage `{stage}` never evaluates", stopping)
        return
    tasks = spec.stages[stage].distiller.needs().tasks or tuple(spec.tasks)[:1]
    if all(getattr(getattr(spec.tasks[task], "data", None), "validation", ...) is None for task in tasks):
        task = tasks[0]
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
            message = f"early stopping has no effect: a patience of {patience} is not used up before the stage ends"
            yield _warning(message, label)


def _teacher_precision(spec: Spec, stage: str, training: Training) -> Iterator[Finding]:
    needs = spec.stages[stage].distiller.needs()
    read = needs.matches or any(needs.reads.get(name) or needs.optional.get(name) for name in needs.teachers)
    if training.teacher_precision is None or (needs.teachers and read):
        return
    why = (
        ("no teacher", "has no frozen teacher") if not needs.teachers else ("not run", "reads nothing of its teachers")
    )
    label = Mark(("stages", stage, "training", "teacher_precision"), why[0], key=True)
    yield _warning(f"`teacher_precision` has no effect: stage `{stage}` {why[1]}", label)


def _lanes(stage: str, training: Training) -> Iterator[Finding]:
    if training.lanes == 1:
        return
    path = ("stages", stage, "training")
    against: tuple[tuple[str, object, str], ...] = (
        ("gradient_checkpointing", True, "draws dropout a second time"),
        ("precision", "fp16", "scales the loss"),
        ("compile", True, "has one thread at a time"),
    )
    for key, value, why in against:
        if getattr(training, key) != value:
            continue
        where = Mark((*path, key), why)
        label = Mark((*path, "lanes"), "not beside that", key=True)
        yield _warning(f"`lanes` has no effect: stage `{stage}` computes one micro-batch after another", label, where)


def _cache(spec: Spec, source: SpecSource, stage: str, training: Training) -> Iterator[Finding]:
    path = ("stages", stage, "training", "teacher_cache")
    settings, needs = training.teacher_cache, spec.stages[stage].distiller.needs()
    written = source.at(path)
    keys = written if isinstance(written, Mapping) else ()
    others = [key for key in keys if key != "use" and not _is_default(settings, key)]
    if not needs.teachers:
        if settings.use == "on" or others:
            label = Mark(path, "no teacher", key=True)
            yield _warning(f"`teacher_cache` has no effect: stage `{stage}` has no frozen teacher", label)
    elif settings.use == "off" and others:
        off = Mark((*path, "use"), "the cache is off")
        yield _warning(f"`{others[0]}` has no effect", Mark((*path, others[0]), "not used", key=True), off)
    elif settings.use == "on":
        for task in needs.tasks or tuple(spec.tasks)[:1]:
            if (why := spec.tasks[task].varies()) is not None:
                label = Mark((*path, "use"), "on")
                where = Mark(("tasks", task), why, key=True)
                message = f"the teachers of stage `{stage}` cannot be cached: in task `{task}` {why}"
                yield Finding("KD512", message, *label, also=(where,), help="`auto` caches where that can be")


def _evaluations(training: Training) -> int | None:
    """How often a stage evaluates, its end included; None where that depends on the number of rows."""
    evaluate = training.evaluate
    if evaluate is not None and evaluate.every_steps is not None:
        return None if training.steps is None else math.ceil(training.steps / evaluate.every_steps)
    if evaluate is None or training.epochs is None:
        return None
    return math.ceil(training.epochs / (evaluate.every_epochs or 1))


def _switched_off(source: SpecSource, distiller: Any, path: SpecPath) -> Iterator[Finding]:
    """Settings beside a weight of 0."""
    for name in type(distiller).model_fields:
        group = getattr(distiller, name)
        weight = getattr(group, "weight", None)
        if not isinstance(weight, Schedule) or not weight.always_zero():
            continue
        written = source.at((*path, name))
        if isinstance(source.at((*path, name, "weight")), Mapping) and weight.name != "constant":
            message = f"the schedule is 0 throughout, so that `{name}` is not computed"
            yield _warning(message, Mark((*path, name, "weight"), "always 0"))
        keys = written if isinstance(written, Mapping) else ()
        others = [key for key in keys if key != "weight" and not _is_default(group, key)]
        if others:
            named = ", ".join(f"`{key}`" for key in others)
            label = Mark((*path, name, others[0]), "not used", key=True)
            off = Mark((*path, name, "weight"), "always 0")
            yield _warning(f"{named} of `{name}` {'has' if len(others) == 1 else 'have'} no effect", label, off)


def _is_default(group: Any, key: str) -> bool:
    """Whether a parameter has its default, as it has throughout a complete spec."""
    value = getattr(group, key, None)
    plain = value.written() if isinstance(value, Component) else value
    return key in type(group).model_fields and bool(plain == type(group).model_fields[key].default)


def _noise(spec: Spec, source: SpecSource) -> Iterator[Finding]:
    """Teachers whose head no file has and no stage trains, as far as their configurations tell."""
    trained: set[str] = set()
    for stage in spec.stages.values():
        needs = stage.distiller.needs()
        for part in needs.each:
            yield from _noisy(spec, source, part, trained)
        trained.add(needs.student)


def _noisy(spec: Spec, source: SpecSource, needs: Needs, trained: set[str]) -> Iterator[Finding]:
    head = spec.tasks[(needs.tasks or tuple(spec.tasks))[0]].head
    for teacher in needs.teachers:
        if head is None or teacher in trained:
            continue
        context = ModelContext(folder=source.folder, seed=spec.seed, name=teacher, models=spec.models)
        known = spec.models[teacher].facts(context).architecture
        kind = architecture(head)
        heads = "logits" in needs.reads.get(teacher, frozenset())
        if known is None or kind.casefold() in known.casefold() or (known and not heads):
            continue
        said = f"its files are of a `{known}`" if known else "all its weights are drawn anew"
        label = Mark(("models", teacher), said, key=True)
        message = f"teacher `{teacher}` teaches noise: no stage trains it, and {said}"
        help_ = f"train it before, in a stage with `distiller: {{supervised: {{model: {teacher}}}}}`"
        yield Finding("KD305", message, *label, help=help_, severity="warning")


def _unused(spec: Spec) -> Iterator[Finding]:
    used: set[str] = set()
    for stage in spec.stages.values():
        needs = stage.distiller.needs()
        used |= {needs.student, *needs.teachers}
    waiting = list(used)
    while waiting:
        for other in spec.models[waiting.pop()].uses():
            if other not in used:
                used.add(other)
                waiting.append(other)
    for name in spec.models:
        if name not in used:
            label = Mark(("models", name), "in no stage", key=True)
            yield _warning(f"model `{name}` is not used", label)
    tasks = {task for stage in spec.stages.values() for task in stage.distiller.needs().tasks} or set(spec.tasks)
    for name in spec.tasks:
        if name not in tasks:
            yield _warning(f"task `{name}` is not learnt", Mark(("tasks", name), "in no stage", key=True))


def _augmentations(spec: Spec) -> Iterator[Finding]:
    """Augmented texts that no teacher answers for: their own labels may no longer be theirs, so they are not used."""
    taught = set()
    for stage in spec.stages.values():
        needs = stage.distiller.needs()
        taught |= set(needs.tasks or spec.tasks) if needs.teachers else set()
    for name, task in spec.tasks.items():
        if getattr(task, "augment", None) and name not in taught:
            label = Mark(("tasks", name, task.name, "augment"), "no teacher labels these texts", key=True)
            yield _warning("`augment` has no effect: no stage of the task has a teacher", label)


def _warning(message: str, label: Mark, *others: Mark) -> Finding:
    return Finding("KD305", message, *label, also=others, severity="warning")
