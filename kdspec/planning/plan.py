"""Makes a plan of a spec: resolves names, expands matches to layers, derives projections, locates features. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from kdspec.api.kinds.model import ModelContext, ModelFacts
from kdspec.api.plan.needs import Needs, TaskNeeds
from kdspec.api.plan.plan import Plan, StagePlan, TaskPlan
from kdspec.api.spec.spec import Spec
from kdspec.api.spec.spec_source import SpecSource
from kdspec.api.working.task import Head
from kdspec.diagnostics.finding import Finding, Mark
from kdspec.planning import micro_batching
from kdspec.planning.derive_projections import Kept
from kdspec.planning.feature_reader import FeatureReader, adaptor_paths
from kdspec.planning.fit_losses import fitted
from kdspec.planning.known_models import Known, faults_of_tasks, known, raised
from kdspec.planning.layer_pairs import Compared
from kdspec.planning.matches import MatchExpansion
from kdspec.planning.names import circles, unresolved
from kdspec.planning.unused import twice, unread
from kdspec.registry.registry import Registry


@dataclass(frozen=True)
class Made:
    """A plan, if there is one, with the findings."""

    plan: Plan | None
    """None if names are unresolved. A plan with errors among the findings can be shown, but not run."""
    findings: tuple[Finding, ...]


def make(spec: Spec, source: SpecSource, registry: Registry) -> Made:
    """Plan a spec.

    Args:
        spec: a spec of the right shape.
        source: the spec as written.
        registry: the components.
    """
    needs, found = _asked(spec)
    found += unresolved(spec, source, needs)
    found += () if _fails(found) else circles(spec)
    if _fails(found):
        return Made(None, (*found, *faults_of_tasks(spec.tasks, source)))
    spec, unfit = fitted(_answered(spec, needs), needs, registry)
    needs = {name: spec.stages[name].distiller.needs() for name in needs}
    tasks_of = _tasks_of(spec, needs.values())
    models = known(spec, source, tasks_of, partial(_kept, spec, source, registry, needs))
    parts = {name: _stage(spec, source, registry, models, name, each) for name, each in needs.items()}
    stages = tuple(stage for stage, _ in parts.values())
    plan = Plan(
        spec=spec, source=source, facts=models.facts, stages=stages, tasks_of=tasks_of, kept=models.kept.projections
    )
    found = [*unfit, *models.findings, *(finding for _, findings in parts.values() for finding in findings)]
    if not _fails(found):
        found += _warnings(plan)
    return Made(plan, tuple(dict.fromkeys(found)))


def misnamed(spec: Spec, source: SpecSource) -> tuple[Finding, ...]:
    """The unknown names in a spec whose files have not been checked."""
    return tuple(unresolved(spec, source, _asked(spec)[0]))


def _asked(spec: Spec) -> tuple[dict[str, Needs], list[Finding]]:
    """The needs of the stages by name, and the strategies that have failed to state them."""
    asked = {name: _needs(spec, name) for name in spec.stages}
    needs = {name: found for name, found in asked.items() if isinstance(found, Needs)}
    return needs, [finding for finding in asked.values() if isinstance(finding, Finding)]


def _answered(spec: Spec, needs: Mapping[str, Needs]) -> Spec:
    """The spec with tasks that read the columns in which their teachers have recorded their answers."""
    tasks = dict(spec.tasks)
    for part in (part for each in needs.values() for part in each.tasks):
        task = part.task or next(iter(tasks))
        for teacher in part.teachers:
            columns = tuple(spec.models[teacher].records().values())
            own = tasks[task].answer_columns()
            if columns and own is not None and not own:
                tasks[task] = tasks[task].with_answers(columns)
    return spec if tasks == spec.tasks else spec.model_copy(update={"tasks": tasks})


def _fails(found: Iterable[Finding]) -> bool:
    return any(finding.severity == "error" for finding in found)


def _needs(spec: Spec, stage: str) -> Needs | Finding:
    distiller = spec.stages[stage].distiller
    try:
        return distiller.needs()
    except Exception as error:  # noqa: BLE001 - a plugin's
        return raised(("stages", stage, "distiller", distiller.name), f"the strategy `{distiller.name}`", error)


def _warnings(plan: Plan) -> Iterator[Finding]:
    """Warnings for a plan without errors."""
    for stage in plan.stages:
        yield from twice(plan.source, stage.matches)
        for task in stage.tasks.values():
            yield from micro_batching.warnings(plan, task)
    yield from unread(plan.spec, plan.stages)


def _tasks_of(spec: Spec, stages: Iterable[Needs]) -> dict[str, tuple[str, ...]]:
    """For each model the tasks whose heads it has: all tasks of a student of several, the last task of other models."""
    every = list(stages)
    several = {needs.student for needs in every if len(needs.tasks) > 1}
    found: dict[str, tuple[str, ...]] = {}
    for needs in every:
        for each in needs.tasks:
            for model in (needs.student, *each.teachers):
                before = found.get(model, ()) if model in several else ()
                found[model] = tuple(dict.fromkeys((*before, _name(spec, each))))
    return found


def _name(spec: Spec, needs: TaskNeeds) -> str:
    """The name of a task; one that is not written is the only one."""
    return needs.task or next(iter(spec.tasks))


def _kept(
    spec: Spec,
    source: SpecSource,
    registry: Registry,
    stages: Mapping[str, Needs],
    facts: Mapping[str, ModelFacts],
    allowed: Mapping[str, frozenset[str]],
) -> Kept:
    """The projections of matches that are layers of students."""
    every = (
        match
        for name, needs in stages.items()
        for each in needs.tasks
        for match in MatchExpansion(spec, source, registry, facts, name, needs.student, each, {}).compared()
    )
    return Kept.of([match for match in every if isinstance(match, Compared) and match.teacher in facts], facts, allowed)


def _stage(
    spec: Spec, source: SpecSource, registry: Registry, models: Known, name: str, needs: Needs
) -> tuple[StagePlan, list[Finding]]:
    stage = spec.stages[name]
    several = len(needs.tasks) > 1
    tasks: dict[str, TaskPlan] = {}
    found = list(_headless(spec, name, needs)) if several else []
    for each in needs.tasks:
        task = _name(spec, each)
        paths = {model: adaptor_paths(spec, model, task)[0] for model in (needs.student, *each.teachers)}
        expanded = MatchExpansion(
            spec,
            source,
            registry,
            models.facts,
            name,
            needs.student,
            each,
            paths,
            models.faulty,
            task if several else "",
            models.kept,
        ).expanded()
        form = spec.models[needs.student].form(
            ModelContext(
                head=Head(kind=spec.tasks[task].head), folder=source.folder, seed=spec.seed, name=needs.student,
                models=spec.models, facts=models.facts, trusts_code=source.trusts_code,
            )
        )  # fmt: skip
        read = FeatureReader(
            spec=spec, stage=name, student=needs.student, needs=each, task=task, paths=paths, form=form
        )
        found += (*read.missing(expanded.lacking), *expanded.findings)
        tasks[task] = TaskPlan(
            stage=name,
            task=task,
            distiller=stage.distiller,
            training=stage.training,
            student=needs.student,
            needs=each,
            matches=tuple(expanded.matches),
            features=read.features(expanded.matches),
        )
    made = StagePlan(name=name, distiller=stage.distiller, training=stage.training, needs=needs, tasks=tasks)
    return made, found


def _headless(spec: Spec, stage: str, needs: Needs) -> Iterator[Finding]:
    """Errors for tasks for which the student cannot have a head besides the others."""
    for each in needs.tasks:
        task = each.task
        assert task is not None, "several tasks have names"
        kind = spec.tasks[task].head
        if not spec.models[needs.student].can_learn(kind):
            yield _no_head(spec, stage, needs.student, task, each, kind)


def _no_head(spec: Spec, stage: str, student: str, task: str, needs: TaskNeeds, kind: str | None) -> Finding:
    asks = "needs no head" if kind is None else f"needs a head for {kind.replace('_', ' ')}"
    return Finding(
        "KD314",
        f"student `{student}` cannot have a head for task `{task}`",
        ("stages", stage, "distiller", spec.stages[stage].distiller.name, *needs.at),
        "learnt together with the others",
        key=True,
        also=(
            Mark(("tasks", task), f"`{spec.tasks[task].name}` {asks}", key=True),
            Mark(("models", student), f"a model of `{spec.models[student].name}`", key=True),
        ),
        help="learn it in a stage of its own, or with a model that has a head for it",
    )
