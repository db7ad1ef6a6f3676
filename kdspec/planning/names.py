"""References in a spec: unknown names of models and tasks, and models that are made of each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from kdspec.api.plan.needs import Needs
from kdspec.api.spec.spec import Spec
from kdspec.api.spec.spec_source import SpecSource
from kdspec.diagnostics.diagnostic import did_you_mean, near
from kdspec.diagnostics.finding import Finding, Mark, SpecPath


def unresolved(spec: Spec, source: SpecSource, needs: Mapping[str, Needs]) -> Iterator[Finding]:
    """Errors for unknown names; there is no plan with these. `needs` are those of the stages by name."""
    for name, model in spec.models.items():
        for used in model.uses():
            if used not in spec.models:
                yield _unknown("model", used, spec.models, source.below(("models", name, model.name), used))
    for name, adaptor in spec.adaptors.items():
        if name not in spec.models:
            yield _unknown("model", name, spec.models, ("adaptors", name), key=True)
        for task, at in adaptor.tasks_named().items():
            if task not in spec.tasks:
                yield _unknown("task", task, spec.tasks, ("adaptors", name, adaptor.name, *at), key=True)
    yield from _of_tasks(spec)
    for stage, each in needs.items():
        yield from _of_stage(spec, source, stage, each)


def circles(spec: Spec) -> Iterator[Finding]:
    """Errors for models that are made of each other."""
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
                message = "models are made of each other: " + " → ".join(f"`{m}`" for m in circle)
                yield Finding("KD307", message, ("models", name), "begins here", key=True)
                break
            chain.append(following[0])


def _unknown(kind: str, name: str, known: Iterable[str], at: SpecPath, *, key: bool = False) -> Finding:
    names = list(known)
    label, message = Mark(at, f"no {kind} of this spec", key), f"unknown {kind} `{name}`"
    if guesses := near(name, names):
        fix = (name, guesses[0]) if len(guesses) == 1 else None
        return Finding("KD204", message, *label, help=did_you_mean(guesses), fix=fix)
    note = "declared here: " + ", ".join(f"`{n}`" for n in names)
    return Finding("KD204", message, *label, notes=(note,))


def _of_tasks(spec: Spec) -> Iterator[Finding]:
    for name, task in spec.tasks.items():
        for at, model in task.models_named().items():
            if model not in spec.models:
                yield _unknown("model", model, spec.models, ("tasks", name, task.name, *at))


def _of_stage(spec: Spec, source: SpecSource, stage: str, needs: Needs) -> Iterator[Finding]:
    path = ("stages", stage, "distiller", spec.stages[stage].distiller.name)
    for model in dict.fromkeys((needs.student, *needs.teachers)):
        if model not in spec.models:
            yield _unknown("model", model, spec.models, source.below(path, model))
    for each in needs.tasks:
        if each.task is None and len(spec.tasks) > 1:
            help_ = "write `task:` with one of " + ", ".join(f"`{name}`" for name in spec.tasks)
            message = f"stage `{stage}` does not name its task, and the spec has several"
            yield Finding("KD204", message, path, "which task?", help=help_)
        elif each.task is not None and each.task not in spec.tasks:
            at = (*path, *each.at) if each.at else source.below(path, each.task)
            yield _unknown("task", each.task, spec.tasks, at, key=bool(each.at))
    yield from _proportions(source, path, needs)
    if needs.student in needs.teachers:
        at = source.below(path, needs.student)
        yield Finding("KD307", f"`{needs.student}` cannot be its own teacher", at, "teacher and student")


def _proportions(source: SpecSource, path: SpecPath, needs: Needs) -> Iterator[Finding]:
    """Errors if `proportions` lacks a task of the stage, or names another one."""
    given = needs.sampling.proportions if needs.sampling is not None else None
    if given is None:
        return
    tasks = [str(each.task) for each in needs.tasks]
    place = source.named(path, "proportions")
    for task in given:
        if task not in tasks:
            yield _unknown("task", task, tasks, (*place, task), key=True)
    if missing := [task for task in tasks if task not in given]:
        named = ", ".join(f"`{task}`" for task in missing)
        message = f"missing key {named} in `proportions`"
        yield Finding("KD102", message, place, f"lacks {named}", key=True)
