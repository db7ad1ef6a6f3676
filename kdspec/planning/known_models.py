"""The facts of models, known without weights, and the faults that models and tasks report of themselves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.kinds import Task
from kdspec.api.kinds.model import Model, ModelContext, ModelFacts
from kdspec.api.spec.bounds import MOST_LAYERS
from kdspec.api.spec.spec import Spec
from kdspec.api.spec.spec_source import SpecSource
from kdspec.api.working.task import Head
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import TRACEBACK, Finding, SpecPath, of_fault
from kdspec.planning.derive_projections import Kept

_RANGE = "KD104"
_COLUMNS = "KD312"


@dataclass(frozen=True)
class Known:
    """The facts of each model. Models with errors are `faulty`: errors that follow from these are not reported."""

    facts: Mapping[str, ModelFacts]
    faulty: frozenset[str]
    findings: tuple[Finding, ...]
    kept: Kept
    """The projections that are layers of models; they are in the facts."""


def known(
    spec: Spec,
    source: SpecSource,
    tasks_of: Mapping[str, tuple[str, ...]],
    keep: Callable[[Mapping[str, ModelFacts], Mapping[str, frozenset[str]]], Kept],
) -> Known:
    """Ask every model for its facts, and models and tasks for their faults.

    Args:
        spec: the spec.
        source: the spec as written.
        tasks_of: for each model the tasks whose heads it has.
        keep: finds the projections that are layers of models, given the facts without them, and how models can keep them.
    """
    contexts = {
        name: ModelContext(
            folder=source.folder, seed=spec.seed, name=name, models=spec.models, learns=tasks_of,
            heads={task: Head(kind=spec.tasks[task].head) for task in tasks_of.get(name, ())},
        )
        for name in spec.models
    }  # fmt: skip
    asked = {name: _facts(spec, context) for name, context in contexts.items()}
    kept = keep(
        {name: found for name, (found, _, _) in asked.items()}, {name: keeps for name, (_, keeps, _) in asked.items()}
    )
    for name, context in contexts.items():
        contexts[name] = replace(context, facts=kept.facts, projection=kept.projections.get(name))
    faults = tuple(_faults(spec, source, contexts, kept.facts))
    wrong = {name: finding for name, (*_, finding) in asked.items() if finding is not None}
    faulty = frozenset((*wrong, *(name for name, _ in faults)))
    # A model that is too deep by what the spec or its files say of it has a fault of its own.
    told = {name for name, _ in faults}
    left = (finding for name, finding in wrong.items() if name not in told or finding.code != _RANGE)
    return Known(kept.facts, faulty, (*left, *(finding for _, finding in faults), *kept.findings), kept)


def raised(path: SpecPath, what: str, error: Exception) -> Finding:
    """The finding for an error that a component raised."""
    if isinstance(error, Fault):
        return of_fault(error, path)
    return Finding("KD506", f"{what} raised {type(error).__name__}: {error}", path, help=TRACEBACK, cause=error)


def _facts(spec: Spec, context: ModelContext) -> tuple[ModelFacts, frozenset[str], Finding | None]:
    """The facts of a model, how it can keep a projection, and the finding if it raises."""
    name = context.name
    try:
        found, keeps = spec.models[name].facts(context), spec.models[name].kept_projections(context)
    except Exception as error:  # noqa: BLE001 - a plugin's
        return ModelFacts(), frozenset(), raised(("models", name, spec.models[name].name), f"model `{name}`", error)
    # More are an error or an attack, since a plan lists matched layers one by one.
    if (found.layers or 0) > MOST_LAYERS:
        message = f"`{name}` would have {found.layers:,} layers; the maximum is {MOST_LAYERS:,}"
        return ModelFacts(), frozenset(), Finding(_RANGE, message, ("models", name, spec.models[name].name))
    return found, frozenset(keeps), None


def _faults(
    spec: Spec, source: SpecSource, contexts: Mapping[str, ModelContext], facts: Mapping[str, ModelFacts]
) -> Iterator[tuple[str, Finding]]:
    """The faults that models and tasks report of themselves, by name."""
    for name, model in spec.models.items():
        yield from ((name, finding) for finding in _faults_of(model, contexts[name], ("models", name, model.name)))
    for name, task in spec.tasks.items():
        context = ModelContext(folder=source.folder, name=name, models=spec.models, facts=facts)
        yield from ((name, finding) for finding in _faults_of(task, context, ("tasks", name, task.name)))


def faults_of_tasks(
    tasks: Mapping[str, Task], source: SpecSource, left_out: Mapping[str, Collection[str]] = MappingProxyType({})
) -> Iterator[Finding]:
    """The faults that tasks report of themselves, of a spec that has no plan.

    Args:
        tasks: the tasks.
        source: the spec as written.
        left_out: keys that a task has the defaults of, since there are errors in them: of such a task only what is wrong
            with its columns is reported, as other faults may follow from the defaults.
    """
    for name, task in tasks.items():
        keys = frozenset(left_out.get(name, ()))
        for finding in _faults_of(task, BuildContext(folder=source.folder), ("tasks", name, task.name)):
            if not keys or (finding.code == _COLUMNS and keys.isdisjoint((finding.at or ())[3:4])):
                yield finding


def _faults_of(component: Model | Task, context: Any, path: SpecPath) -> Iterator[Finding]:
    try:
        faults = tuple(component.check(context))
    except Fault as found:
        faults = (found,)
    except Exception as error:  # noqa: BLE001 - a plugin's
        message = f"the check of {component.words()} `{component.name}` raised {type(error).__name__}: {error}"
        help_ = f"its other rules were not applied; {TRACEBACK}"
        yield Finding("KD203", message, path, help=help_, severity="warning", cause=error)
        return
    yield from (of_fault(fault, path) for fault in faults)
