"""The plan: what would run, with every name, task and layer resolved. The engine runs it, and rules read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kdspec.api.distiller import Distiller
from kdspec.api.field_path import FieldPath
from kdspec.api.match import PlannedMatch
from kdspec.api.model import ModelContext, ModelFacts
from kdspec.api.needs import Needs, TaskNeeds
from kdspec.api.spec import Spec, Training
from kdspec.api.spec_source import SpecSource
from kdspec.diagnostics.finding import SpecPath


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
class TaskPlan:
    """What one stage does with one of its tasks."""

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
        """The models that take part, the student first."""
        return (self.student, *self.needs.teachers)

    @property
    def at(self) -> SpecPath:
        """Where the spec has what the strategy does with this task."""
        return ("stages", self.stage, "distiller", self.distiller.name, *self.needs.at)


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """A stage with nothing left open."""

    name: str
    distiller: Distiller
    training: Training
    needs: Needs
    tasks: Mapping[str, TaskPlan]
    """What it does with each of its tasks; there is at least one."""

    @property
    def several(self) -> bool:
        """Whether there are several tasks, so that terms and metrics have the name of theirs."""
        return len(self.tasks) > 1

    @property
    def student(self) -> str:
        """The model that trains."""
        return self.needs.student

    @property
    def teachers(self) -> tuple[str, ...]:
        """The frozen models, of all tasks."""
        return tuple(dict.fromkeys(teacher for task in self.tasks.values() for teacher in task.teachers))

    @property
    def models(self) -> tuple[str, ...]:
        """The models that take part, the student first."""
        return (self.student, *self.teachers)

    @property
    def matches(self) -> tuple[PlannedMatch, ...]:
        """The matches of all tasks."""
        return tuple(match for task in self.tasks.values() for match in task.matches)

    @property
    def at(self) -> SpecPath:
        """Where the spec has the strategy's parameters."""
        return ("stages", self.name, "distiller", self.distiller.name)

    def only(self, task: str) -> StagePlan:
        """The stage with one of its tasks."""
        return replace(self, tasks={task: self.tasks[task]})

    def trained(self, training: Training) -> StagePlan:
        """The same stage with other settings of its training."""
        tasks = {name: replace(task, training=training) for name, task in self.tasks.items()}
        return replace(self, training=training, tasks=tasks)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What would run."""

    spec: Spec
    source: SpecSource
    facts: Mapping[str, ModelFacts]
    """For each model what is known without its weights."""
    stages: tuple[StagePlan, ...]
    tasks_of: Mapping[str, tuple[str, ...]]
    """For each model the tasks whose heads it has; more than one for the student of several tasks."""

    def context(self, model: str) -> ModelContext:
        """What a model is told before any weight exists."""
        return ModelContext(
            folder=self.source.folder, seed=self.spec.seed, name=model, models=self.spec.models,
            facts=self.facts, learns=self.tasks_of, trusts_code=self.source.trusts_code,
        )  # fmt: skip
