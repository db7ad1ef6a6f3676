"""A spec to a plan: names resolved, matches expanded to layers, projections derived, features located. Torch-free."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from kdspec.api.context import AdaptorContext, ModelContext, ModelFacts
from kdspec.api.field_path import FieldPath
from kdspec.api.field_path import parse as parse_path
from kdspec.api.match import PlannedMatch
from kdspec.api.spec_source import SpecSource
from kdspec.api.step import Needs
from kdspec.diagnostics.diagnostic import closest
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import Finding, Mark, SpecPath, of_fault
from kdspec.plan import micro_batching
from kdspec.plan.matches import MatchExpansion
from kdspec.plan.unused import twice, unread
from kdspec.registry.registry import Registry
from kdspec.spec.spec import Spec, Stage, Training


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One feature of one model: where it is, and which layers of it are used."""

    name: str
    paths: tuple[FieldPath, ...]
    several: bool
    """Whether the adaptor gives a list, one path a head."""
    layers: tuple[int, ...] | None = None
    """The layers that matches use; None where the feature is used as a whole."""


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """A stage with nothing left open."""

    name: str
    stage: Stage
    needs: Needs
    tasks: tuple[str, ...]
    matches: tuple[PlannedMatch, ...]
    features: Mapping[str, Mapping[str, Feature]]
    """For each model the features that are read; of several tasks those of each model's first one."""
    parts: tuple[PlannedStage, ...] = ()
    """For a stage of several tasks, the same stage for each task alone."""

    @property
    def each(self) -> tuple[PlannedStage, ...]:
        """The stage for each task; itself where there is one."""
        return self.parts or (self,)

    @property
    def task(self) -> str:
        """The task, of several the first."""
        return self.tasks[0]

    @property
    def training(self) -> Training:
        """How long and how it trains."""
        return self.stage.training

    @property
    def models(self) -> tuple[str, ...]:
        """The models that take part, the student first."""
        return (self.needs.student, *self.needs.teachers)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What would run."""

    spec: Spec
    source: SpecSource
    facts: Mapping[str, ModelFacts]
    """For each model what is known without its weights."""
    stages: tuple[PlannedStage, ...]
    tasks_of: Mapping[str, tuple[str, ...]]
    """For each model the tasks whose heads it has; more than one for the student of several tasks."""
    findings: tuple[Finding, ...] = field(default=())

    def context(self, model: str) -> ModelContext:
        """What a model is told before any weight exists."""
        return ModelContext(
            folder=self.source.folder, seed=self.spec.seed, name=model, models=self.spec.models,
            facts=self.facts, learns=self.tasks_of, trusts_code=self.source.trusts_code,
        )  # fmt: skip


MAX_LAYERS = 10_000
"""A model that claims more is a mistake or an attack; a plan lists the layers that are matched one by one."""


def make(spec: Spec, source: SpecSource, registry: Registry) -> tuple[Plan | None, tuple[Finding, ...]]:
    """Plan a spec whose names have been checked. Without a plan the findings hold at least one error."""
    found: list[Finding] = []
    faulty: set[str] = set()
    facts = {}
    for name in spec.models:
        try:
            facts[name] = _facts(spec, source, name)
        except Exception as error:  # noqa: BLE001 - a plugin's
            facts[name] = ModelFacts()
            faulty.add(name)
            found.append(_raised(("models", name, spec.models[name].name), f"model `{name}`", error))
        if (facts[name].layers or 0) > MAX_LAYERS:
            message = f"`{name}` would have {facts[name].layers:,} layers, and {MAX_LAYERS:,} are the most"
            found.append(Finding("KD104", message, ("models", name)))
            facts[name] = ModelFacts()
            faulty.add(name)
    for name, finding in _faults(spec, source, facts):
        found.append(finding)
        faulty.add(name)
    stages = []
    for name, planned in spec.stages.items():
        try:
            needs = planned.distiller.needs()
        except Exception as error:  # noqa: BLE001 - a plugin's
            path = ("stages", name, "distiller", planned.distiller.name)
            found.append(_raised(path, f"the strategy `{planned.distiller.name}`", error))
        else:
            stages.append(_stage(spec, source, registry, facts, name, needs, found, faulty))
    if any(finding.severity == "error" for finding in found):
        return None, tuple(found)
    for stage in stages:
        found.extend(twice(source, stage.matches))
        found.extend(dict.fromkeys(told for part in stage.each for told in micro_batching.warnings(spec, part)))
    found.extend(unread(spec, stages))
    made = Plan(
        spec=spec, source=source, facts=facts, stages=tuple(stages), tasks_of=_tasks_of(stages), findings=tuple(found)
    )  # fmt: skip
    return made, tuple(found)


def _tasks_of(stages: Iterable[PlannedStage]) -> dict[str, tuple[str, ...]]:
    """The student of several tasks has the heads of all that it takes part in; another model that of its last one."""
    parts = [part for stage in stages for part in stage.each]
    several = {stage.needs.student for stage in stages if stage.parts}
    found: dict[str, tuple[str, ...]] = {}
    for part in parts:
        for model in part.models:
            before = found.get(model, ()) if model in several else ()
            found[model] = tuple(dict.fromkeys((*before, part.task)))
    return found


def adaptor_paths(spec: Spec, model: str, task: str) -> tuple[Mapping[str, str | list[str]], bool]:
    """The field paths of a model's features, and whether the spec writes them (else they are the task's)."""
    written = spec.adaptors.get(model)
    if written is not None:
        return written.build(AdaptorContext(task=task)), True
    return spec.tasks[task].adaptor(), False


def locate(spec: Spec, model: str, task: str, names: Iterable[str]) -> dict[str, Feature]:
    """Those of the named features that a model's adaptor has, each as a whole."""
    paths = adaptor_paths(spec, model, task)[0]
    return {name: _whole(name, paths[name]) for name in names if name in paths}


def _whole(name: str, value: str | list[str], layers: tuple[int, ...] | None = None) -> Feature:
    texts = value if isinstance(value, list) else [value]
    paths = tuple(parse_path(text) for text in texts)
    return Feature(name=name, paths=paths, several=isinstance(value, list), layers=layers)


def _facts(spec: Spec, source: SpecSource, name: str) -> ModelFacts:
    context = ModelContext(folder=source.folder, seed=spec.seed, name=name, models=spec.models)
    return spec.models[name].facts(context)


def _raised(path: SpecPath, what: str, error: Exception) -> Finding:
    if isinstance(error, Fault):
        return of_fault(error, path)
    return Finding("KD506", f"{what} raised {type(error).__name__}: {error}", path)


def _faults(spec: Spec, source: SpecSource, facts: Mapping[str, ModelFacts]) -> Iterator[tuple[str, Finding]]:
    """What models and tasks find wrong with themselves, by name."""
    for section, components in (("models", spec.models), ("tasks", spec.tasks)):
        for name, component in components.items():
            context = ModelContext(folder=source.folder, name=name, models=spec.models, facts=facts)
            path = (section, name, component.name)
            try:
                faults = tuple(component.check(context))
            except Fault as raised:
                faults = (raised,)
            except Exception as error:  # noqa: BLE001 - a plugin's
                message = f"the check of {component.words()} `{component.name}` raised {type(error).__name__}: {error}"
                help_ = "its other rules were not applied; tell the plugin's author"
                yield name, Finding("KD203", message, path, help=help_, severity="warning")
                continue
            for fault in faults:
                yield name, of_fault(fault, path)


def _stage(
    spec: Spec,
    source: SpecSource,
    registry: Registry,
    facts: Mapping[str, ModelFacts],
    name: str,
    needs: Needs,
    found: list[Finding],
    faulty: Collection[str],
) -> PlannedStage:
    stage = spec.stages[name]
    if needs.parts:
        parts = tuple(
            _part(spec, source, registry, facts, name, part, found, faulty, task) for task, part in needs.parts.items()
        )
        found.extend(_headless(spec, name, needs))
        features: dict[str, Mapping[str, Feature]] = {}
        for part in parts:
            features = {**part.features, **features}
        matches = tuple(match for part in parts for match in part.matches)
        return PlannedStage(
            name=name, stage=stage, needs=needs, tasks=needs.tasks, matches=matches, features=features, parts=parts
        )
    return _part(spec, source, registry, facts, name, needs, found, faulty)


def _headless(spec: Spec, stage: str, needs: Needs) -> Iterator[Finding]:
    """Tasks for which the student can have no head beside the others."""
    student = needs.student
    for task, part in needs.parts.items():
        kind = spec.tasks[task].head
        if spec.models[student].can_learn(kind):
            continue
        path = ("stages", stage, "distiller", spec.stages[stage].distiller.name, *part.at)
        asks = "asks for no head" if kind is None else f"asks for a head for {kind.replace('_', ' ')}"
        yield Finding(
            "KD314",
            f"student `{student}` can have no head for task `{task}`",
            *Mark(path, "to be learnt beside the others", key=True),
            also=(
                Mark(("tasks", task), f"`{spec.tasks[task].name}` {asks}", key=True),
                Mark(("models", student), f"a model of `{spec.models[student].name}`", key=True),
            ),
            help="learn it in a stage of its own, or with a model that has a head for it",
        )


def _part(
    spec: Spec,
    source: SpecSource,
    registry: Registry,
    facts: Mapping[str, ModelFacts],
    name: str,
    needs: Needs,
    found: list[Finding],
    faulty: Collection[str],
    task: str = "",
) -> PlannedStage:
    """A stage of one task, or one task of a stage of several, whose name is then given."""
    stage = spec.stages[name]
    tasks = needs.tasks or tuple(spec.tasks)[:1]
    located = _Locator(spec, name, needs, tasks[0], found)
    expansion = MatchExpansion(spec, source, registry, facts, name, needs, located.paths, faulty, task)
    matches = tuple(expansion.matches())
    found.extend(expansion.found)
    for model, feature, path in expansion.unknown:
        located.layered(model, feature, (), path, written=source.has((*path, "feature")))
    for match in matches:
        located.layered(needs.student, match.feature, match.student_layers, match.path)
        located.layered(match.teacher, match.feature, match.teacher_layers, match.path)
    return PlannedStage(name=name, stage=stage, needs=needs, tasks=tasks, matches=matches, features=located.features())


class _Locator:
    """Finds each feature that a stage reads in the models' adaptors, and says which are missing."""

    def __init__(self, spec: Spec, stage: str, needs: Needs, task: str, found: list[Finding]) -> None:
        self.spec, self.stage, self.needs, self.task, self.found = spec, stage, needs, task, found
        self.paths: dict[str, Mapping[str, str | list[str]]] = {}
        self.whole: dict[str, set[str]] = {}
        self.layers: dict[str, dict[str, set[int]]] = {}
        for model in (needs.student, *needs.teachers):
            self.paths[model] = adaptor_paths(spec, model, task)[0]
            self.whole[model] = set()
            self.layers[model] = {}
            for feature in needs.reads.get(model, frozenset()):
                self._read(model, feature, (), f"the `{self._distiller}` strategy reads it")
            self.whole[model] |= needs.optional.get(model, frozenset()) & self.paths[model].keys()
        if needs.hard_labels:
            self._hard_labels(needs.student)
        if needs.matches and "inputs_mask" not in self.paths[needs.student]:
            self._warn_about_padding(needs.student)

    @property
    def _distiller(self) -> str:
        return self.spec.stages[self.stage].distiller.name

    @property
    def _place(self) -> SpecPath:
        """The strategy, or the part of it that is for this task."""
        path = ("stages", self.stage, "distiller")
        return (*path, self._distiller, *self.needs.at) if self.needs.at else path

    def _hard_labels(self, model: str) -> None:
        if "losses" in self.paths[model] and (model in self.spec.adaptors or self.spec.tasks[self.task].has_labels()):
            self.whole[model].add("losses")
            return
        if not self.spec.tasks[self.task].has_labels():
            label = Mark(self._place, "learns hard labels", key=bool(self.needs.at))
            where = Mark(("tasks", self.task), "has no labels", key=True)
            message = f"stage `{self.stage}` learns hard labels, but task `{self.task}` has none"
            self.found.append(Finding("KD312", message, *label, (where,)))
            return
        for feature in ("logits", "labels"):
            self._read(model, feature, (), "the hard-label loss reads it")

    def layered(self, model: str, feature: str, layers: Iterable[int], path: SpecPath, *, written: bool = True) -> None:
        """Note the layers that a match uses of a model's feature."""
        indices = tuple(layers)
        if not self._read(model, feature, (*path, "feature"), "this match needs it", written=written):
            return
        if indices:
            self.whole[model].discard(feature)
            self.layers[model].setdefault(feature, set()).update(indices)

    def _read(self, model: str, feature: str, path: SpecPath, why: str, *, written: bool = True) -> bool:
        self.whole[model].add(feature)
        if feature in self.paths[model]:
            return True
        label = Mark(path or self._place, why, key=not path and bool(self.needs.at))
        guess = closest(feature, self.paths[model]) if path and written else None
        add = f"add `{feature}: ...` with its field path to `adaptors.{model}`"
        finding = Finding(
            "KD303",
            f"the adaptor of `{model}` has no feature `{feature}`{f' for task `{self.task}`' if self.needs.at else ''}",
            *label,
            also=(self._declared(model),),
            help=f"did you mean `{guess}`?" if guess is not None else add,
            fix=(feature, guess) if guess is not None else None,
        )
        if finding not in self.found:
            self.found.append(finding)
        return False

    def _declared(self, model: str) -> Mark:
        names = ", ".join(f"`{name}`" for name in self.paths[model]) or "no feature"
        if model in self.spec.adaptors:
            return Mark(("adaptors", model), f"declared here, with {names}", key=True)
        return Mark(("tasks", self.task), f"the task's default adaptor has {names}", key=True)

    def _warn_about_padding(self, model: str) -> None:
        finding = Finding(
            "KD305",
            f"matches of `{model}` average over padding too: its adaptor has no `inputs_mask`",
            *self._declared(model),
            help="add `inputs_mask: batch.attention_mask`",
            severity="warning",
        )
        if model in self.spec.adaptors:
            self.found.append(finding)

    def features(self) -> dict[str, dict[str, Feature]]:
        """For each model the features that are read."""
        return {model: dict(self._of(model)) for model in self.paths}

    def _of(self, model: str) -> Iterable[tuple[str, Feature]]:
        for name in sorted(self.whole[model] | self.layers[model].keys()):
            value = self.paths[model].get(name)
            if value is None:
                continue
            layers = self.layers[model].get(name)
            chosen = None if layers is None or name in self._as_whole(model) else tuple(sorted(layers))
            yield name, _whole(name, value, chosen)

    def _as_whole(self, model: str) -> frozenset[str]:
        return self.needs.reads.get(model, frozenset())
