"""The needs that a distiller declares: models, tasks, features and data. Plan, hooks and cache follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from kdspec.api.component import Strict
from kdspec.api.plan.mixture import Mixture
from kdspec.api.spec.match import Match
from kdspec.api.spec.task_sampling import Sampling


def _none() -> Mapping[str, frozenset[str]]:
    return MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class LogitUse:
    """How the terms of a strategy read the logits of a teacher."""

    temperatures: tuple[float, ...] = ()
    """The temperatures at which divergences read the probabilities, if nothing else reads the logits."""
    student_temperature: float | None = None
    """That of the student; None: it is the same, or changes."""
    why: str | None = None
    """Why all logits are needed, as a clause (`the loss `mse` compares all logits`); None: probabilities are enough."""
    at: tuple[str | int, ...] = ()
    """The path in the strategy's parameters to the cause, or to the temperature."""


HARD_LABELS = "hard_labels"
"""The name of the hard-label term. A strategy may have the term without a parameter of that name; with several heads, each
term has a suffix."""


@dataclass(frozen=True, kw_only=True)
class ClassesOnly:
    """A setting that is an error unless the logits are classes of which one is right."""

    at: tuple[str | int, ...]
    """Its path in the strategy's parameters."""
    why: str
    """What it does, as a clause: `it corrects the one right class`."""
    help: str
    """How to fix it."""


@dataclass(frozen=True, kw_only=True)
class DeclaredTerm:
    """A term of a strategy, as the plan shows it."""

    name: str
    """The name in the objective's terms: `soft_labels`."""
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What the plan calls its settings (`loss`, `weight`, `temperature`), and the strategy's parameters that set them."""
    weight: float | None = 1.0
    """Its weight if none of the parameters is; None: known only when it runs."""
    active: bool = True
    """Whether it is computed: False for a term that its settings turn off."""


@dataclass(frozen=True, kw_only=True)
class TaskNeeds:
    """What a strategy needs to learn one task."""

    task: str | None = None
    """The task; None: the only one of the spec."""
    teachers: tuple[str, ...] = ()
    """The frozen models."""
    reads: Mapping[str, frozenset[str]] = field(default_factory=_none)
    """For each model the features that it must have (`logits`, `labels`, `losses`, ...)."""
    optional: Mapping[str, frozenset[str]] = field(default_factory=_none)
    """For each model the features that are read if its adaptor has them (`logits_mask`, `inputs_mask`)."""
    logits: Mapping[str, LogitUse] = field(default_factory=lambda: MappingProxyType({}))
    """For each teacher how its logits are read; for teachers that are not listed, all logits are read."""
    hard_labels: bool = False
    """Whether the student's hard loss is read: its `losses` if its adaptor has them, else `logits` and `labels`."""
    unlabelled: bool = False
    """Whether the student learns from rows without labels; the `unlabelled` split is then added to the training rows."""
    terms: tuple[DeclaredTerm, ...] = ()
    """The terms, besides those of matches. Without them the plan shows each parameter that is a mapping as a term, and a weight
    that it cannot know as unknown."""
    mixture: Mixture = field(default_factory=Mixture)
    """How several teachers are one for rows without labels, whose metrics are measured beside them."""
    classes_only: tuple[ClassesOnly, ...] = ()
    """Settings in use that need logits of classes."""
    matches: tuple[Match, ...] = ()
    """Matches between layers; the plan expands them and passes them on in `ObjectiveContext.matches`."""
    default_teacher: str | None = None
    """The teacher of a match that names none; None: the first teacher."""
    at: tuple[str | int, ...] = ()
    """Path in the strategy's parameters below which its `matches` and labels for this task are, so that errors are
    reported there; empty if these are parameters of the strategy itself."""

    @property
    def learns(self) -> bool:
        """Whether anything of the task is learnt."""
        return bool(any(self.reads.values()) or self.hard_labels or self.matches)

    @property
    def reads_labels(self) -> bool:
        """Whether a loss reads the labels of the training rows."""
        return self.hard_labels or any("labels" in names for names in self.reads.values())

    def within(self, distiller: Any) -> Any:
        """The part of a strategy's parameters at the path `at`."""
        found: Any = distiller
        for key in self.at:
            found = getattr(found, str(key)) if isinstance(found, Strict) else found[key]
        return found


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The needs of a strategy: its student, and for each task the teachers and the features read.

    The student of several tasks has a head for each of them. In a step of a task, `Step.task` is its name and
    `Step.teachers` has the teachers of that task only.
    """

    student: str
    """The model that is trained."""
    tasks: tuple[TaskNeeds, ...] = (TaskNeeds(),)
    """At least one; several have names."""
    sampling: Sampling | None = None
    """How several tasks share the micro-batches; None: in proportion to their data."""
    changing: tuple[str, ...] = ()
    """Teachers whose weights the strategy changes, such as the mean of the student's past weights. They are not trained by
    gradients; they are saved and restored with the student, kept at the end of the stage, and have no cache."""

    def __post_init__(self) -> None:
        assert self.tasks, "a strategy learns a task"
        assert len(self.tasks) == 1 or all(each.task is not None for each in self.tasks), "several tasks have names"
        assert {*self.changing} <= {*self.teachers}, "a model that changes is a teacher"

    @property
    def teachers(self) -> tuple[str, ...]:
        """The frozen models, of all tasks."""
        return tuple(dict.fromkeys(teacher for task in self.tasks for teacher in task.teachers))
