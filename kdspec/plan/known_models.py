"""The facts of models, known without weights, and the faults that models and tasks report of themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kdspec.api.kinds.model import ModelContext, ModelFacts
from kdspec.api.spec.bounds import MOST_LAYERS
from kdspec.api.spec.spec import Spec
from kdspec.api.spec.spec_source import SpecSource
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import TRACEBACK, Finding, SpecPath, of_fault

_RANGE = "KD104"


@dataclass(frozen=True)
class Known:
    """The facts of each model. Models with errors are `faulty`: errors that follow from these are not reported."""

    facts: Mapping[str, ModelFacts]
    faulty: frozenset[str]
    findings: tuple[Finding, ...]


def known(spec: Spec, source: SpecSource) -> Known:
    """Ask every model for its facts, and models and tasks for their faults."""
    asked = {name: _facts(spec, source, name) for name in spec.models}
    facts = {name: found for name, (found, _) in asked.items()}
    faults = tuple(_faults(spec, source, facts))
    wrong = {name: finding for name, (_, finding) in asked.items() if finding is not None}
    faulty = frozenset((*wrong, *(name for name, _ in faults)))
    # A model that is too deep by what the spec or its files say of it has a fault of its own.
    told = {name for name, _ in faults}
    left = (finding for name, finding in wrong.items() if name not in told or finding.code != _RANGE)
    return Known(facts, faulty, (*left, *(finding for _, finding in faults)))


def raised(path: SpecPath, what: str, error: Exception) -> Finding:
    """The finding for an error that a component raised."""
    if isinstance(error, Fault):
        return of_fault(error, path)
    return Finding("KD506", f"{what} raised {type(error).__name__}: {error}", path, help=TRACEBACK, cause=error)


def _facts(spec: Spec, source: SpecSource, name: str) -> tuple[ModelFacts, Finding | None]:
    context = ModelContext(folder=source.folder, seed=spec.seed, name=name, models=spec.models)
    try:
        found = spec.models[name].facts(context)
    except Exception as error:  # noqa: BLE001 - a plugin's
        return ModelFacts(), raised(("models", name, spec.models[name].name), f"model `{name}`", error)
    # More are an error or an attack, since a plan lists matched layers one by one.
    if (found.layers or 0) > MOST_LAYERS:
        message = f"`{name}` would have {found.layers:,} layers; the maximum is {MOST_LAYERS:,}"
        return ModelFacts(), Finding(_RANGE, message, ("models", name, spec.models[name].name))
    return found, None


def _faults(spec: Spec, source: SpecSource, facts: Mapping[str, ModelFacts]) -> Iterator[tuple[str, Finding]]:
    """The faults that models and tasks report of themselves, by name."""
    for section, components in (("models", spec.models), ("tasks", spec.tasks)):
        for name, component in components.items():
            context = ModelContext(folder=source.folder, name=name, models=spec.models, facts=facts)
            path = (section, name, component.name)
            try:
                faults = tuple(component.check(context))
            except Fault as found:
                faults = (found,)
            except Exception as error:  # noqa: BLE001 - a plugin's
                message = f"the check of {component.words()} `{component.name}` raised {type(error).__name__}: {error}"
                help_ = f"its other rules were not applied; {TRACEBACK}"
                yield name, Finding("KD203", message, path, help=help_, severity="warning", cause=error)
                continue
            for fault in faults:
                yield name, of_fault(fault, path)
