"""The plan: a spec with every name, task and layer resolved. The engine runs it, and checks read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kdspec.api.kinds.distiller import Distiller
from kdspec.api.kinds.model import KeptProjection, ModelContext, ModelFacts
from kdspec.api.paths.field_path import FieldPath
from kdspec.api.plan.needs import Needs, TaskNeeds
from kdspec.api.spec.match import PlannedMatch
from kdspec.api.spec.spec import Spec, Training
from kdspec.api.spec.spec_source import SpecSource
from kdspec.api.working.task import Head
from kdspec.diagnostics.finding import SpecPath

PREDICTIONS = frozenset({"logits", "losses"})
"""The features of a model that depend on its head."""


_OF_TOKENS = frozenset(
    {"output.last_hidden_state"}
    | {
        f"output.{side}{kind}"
        for side in ("", "encoder_")
        for kind in ("hidden_states", "attentions", "attention_scores")
    }
)
"""Field paths of values with one entry for each token."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One feature of one model: its field paths, and the layers that are used."""

    name: str
    paths: tuple[FieldPath, ...]
    several: bool
    """Whether the adaptor gives a list, one path a head."""
    layers: tuple[int, ...] | None = None
    """The layers that matches use; None if the feature is used as a whole."""


@dataclass(frozen=True, kw_only=True)
class TaskPlan:
    """One task of a stage: the strategy's needs for it, its matches and its features."""

    stage: str
    """The name of the stage."""
    task: str
    """The name of the task."""
    distiller: Distiller
    training: Training
    student: str
    needs: TaskNeeds
    matches: tuple[PlannedMatch, ...] = ()
    features: Mapping[str, Mapping[str, Feature]]
    """For each model the features that are read."""

    @property
    def teachers(self) -> tuple[str, ...]:
        """The frozen models."""
        return self.needs.teachers

    @property
    def models(self) -> tuple[str, ...]:
        """All models, the student first."""
        return (self.student, *self.needs.teachers)

    def compares_positions(self, match: PlannedMatch) -> bool:
        """Whether a match compares layers token by token, as far as field paths tell; False where shapes must tell it."""
        sides = ((model, self.features[model].get(match.feature)) for model in (match.student, match.teacher))
        texts = [str(path) for _, feature in sides if feature is not None for path in feature.paths]
        return match.loss.compares_positions and all(text in _OF_TOKENS for text in texts)

    @property
    def at(self) -> SpecPath:
        """The path of the strategy's parameters for this task."""
        return ("stages", self.stage, "distiller", self.distiller.name, *self.needs.at)


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """A stage, fully resolved."""

    name: str
    distiller: Distiller
    training: Training
    needs: Needs
    tasks: Mapping[str, TaskPlan]
    """The tasks by name; there is at least one."""

    @property
    def several(self) -> bool:
        """Whether there are several tasks; the names of terms and metrics then begin with their task."""
        return len(self.tasks) > 1

    @property
    def student(self) -> str:
        """The model that is trained."""
        return self.needs.student

    @property
    def teachers(self) -> tuple[str, ...]:
        """The frozen models, of all tasks."""
        return tuple(dict.fromkeys(teacher for task in self.tasks.values() for teacher in task.teachers))

    @property
    def models(self) -> tuple[str, ...]:
        """All models, the student first."""
        return (self.student, *self.teachers)

    @property
    def matches(self) -> tuple[PlannedMatch, ...]:
        """The matches of all tasks."""
        return tuple(match for task in self.tasks.values() for match in task.matches)

    @property
    def at(self) -> SpecPath:
        """The path of the strategy's parameters."""
        return ("stages", self.name, "distiller", self.distiller.name)

    def only(self, task: str) -> StagePlan:
        """The stage with only one of its tasks."""
        return replace(self, tasks={task: self.tasks[task]})

    def trained(self, training: Training) -> StagePlan:
        """The stage with other training settings."""
        tasks = {name: replace(task, training=training) for name, task in self.tasks.items()}
        return replace(self, training=training, tasks=tasks)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A spec with everything resolved."""

    spec: Spec
    source: SpecSource
    facts: Mapping[str, ModelFacts]
    """The facts of each model."""
    stages: tuple[StagePlan, ...]
    tasks_of: Mapping[str, tuple[str, ...]]
    """For each model the tasks whose heads it has; more than one for the student of several tasks."""
    kept: Mapping[str, KeptProjection] = field(default_factory=dict)
    """The projections that are layers of models, by model; the facts have the widths with them."""

    def same_tokens(self, model: str, other: str) -> bool | None:
        """Whether two models get the same token ids for every text; None if that is known only when rows are encoded.

        True for models of which neither has a tokenizer.
        """
        models = [(self.spec.models[name], self.context(name)) for name in (model, other)]
        one, two = (component.tokenizer_id(context) for component, context in models)
        if one == two:
            return True
        known = [component.token_ids(context) for component, context in models]
        return False if None not in known and known[0] != known[1] else None

    def context(self, model: str) -> ModelContext:
        """The context of a model before any weights are loaded."""
        heads = {task: Head(kind=self.spec.tasks[task].head) for task in self.tasks_of.get(model, ())}
        return ModelContext(
            head=next(iter(heads.values()), None), heads=heads, projection=self.kept.get(model),
            folder=self.source.folder, seed=self.spec.seed, name=model, models=self.spec.models,
            facts=self.facts, learns=self.tasks_of, trusts_code=self.source.trusts_code,
            read_as_loaded=any(name == model for name, _ in self.read_as_loaded),
        )  # fmt: skip

    @property
    def final_stage(self) -> StagePlan:
        """The stage that trains the run's student: the last one with a teacher, or the last one; not a baseline behind it."""
        distilled = [stage for stage in self.stages if stage.teachers]
        return (distilled or list(self.stages))[-1]

    @property
    def read_as_loaded(self) -> frozenset[tuple[str, str]]:
        """The teachers, each with a task, whose predictions a stage reads before any stage has trained them."""
        trained: set[str] = set()
        found: set[tuple[str, str]] = set()
        for stage in self.stages:
            for task in stage.tasks.values():
                frozen = (name for name in task.teachers if name not in trained)
                found |= {(name, task.task) for name in frozen if task.features[name].keys() & PREDICTIONS}
            trained.add(stage.student)
        return frozenset(found)
