"""What a distiller declares that it needs of models, tasks and data; plan, capture and cache come from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from kdspec.api.component import Strict
from kdspec.api.match import Match
from kdspec.api.task_sampling import Sampling


def _none() -> Mapping[str, frozenset[str]]:
    return MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class LogitUse:
    """How the terms of a strategy read the logits of a teacher."""

    temperatures: tuple[float, ...] = ()
    """Those at which divergences read the probabilities, where nothing else reads the logits."""
    why: str | None = None
    """Why all logits are needed, as a clause (`the loss `mse` compares all logits`); None: the probabilities will do."""
    at: tuple[str | int, ...] = ()
    """The keys of the strategy's parameters where the spec says so, or has the temperature."""


HARD_LABELS = "hard_labels"
"""The name of the term of hard labels, which a strategy may have without a parameter of that name; several heads have a
suffix each."""


@dataclass(frozen=True, kw_only=True)
class ClassesOnly:
    """A setting that is a mistake where logits stand for something else than classes of which one is right."""

    at: tuple[str | int, ...]
    """Keys of the strategy's parameters that lead to it."""
    why: str
    """What it does, as a clause: `it corrects the one right class`."""
    help: str
    """What to do about it."""


@dataclass(frozen=True, kw_only=True)
class TaskNeeds:
    """What a strategy needs to learn one task."""

    task: str | None = None
    """The task; None stands for the only one of the spec."""
    teachers: tuple[str, ...] = ()
    """The frozen models."""
    reads: Mapping[str, frozenset[str]] = field(default_factory=_none)
    """For each model the features that must be there (`logits`, `labels`, `losses`, ...)."""
    optional: Mapping[str, frozenset[str]] = field(default_factory=_none)
    """For each model the features that are read where its adaptor has them (`logits_mask`, `inputs_mask`)."""
    logits: Mapping[str, LogitUse] = field(default_factory=lambda: MappingProxyType({}))
    """For each teacher how its logits are read; all of them where this says nothing of it."""
    hard_labels: bool = False
    """Whether the student's hard loss is read: its `losses` where its adaptor has them, else `logits` and `labels`."""
    unlabelled: bool = False
    """Whether rows without labels teach anything, so that the `unlabelled` split joins the training rows."""
    classes_only: tuple[ClassesOnly, ...] = ()
    """Settings in use that need logits of classes."""
    matches: tuple[Match, ...] = ()
    """Matches between layers; the plan expands them and gives them back in `ObjectiveContext.matches`."""
    default_teacher: str | None = None
    """The teacher of a match that names none; the first teacher where this is None."""
    at: tuple[str | int, ...] = ()
    """Keys of the strategy's parameters below which it has its `matches` and labels for this task, so that mistakes are
    told there; empty where these are parameters of the strategy itself."""

    @property
    def learns(self) -> bool:
        """Whether anything of the task is learnt."""
        return bool(any(self.reads.values()) or self.hard_labels or self.matches)

    def within(self, distiller: Any) -> Any:
        """The part of a strategy's parameters that `at` leads to."""
        found: Any = distiller
        for key in self.at:
            found = getattr(found, str(key)) if isinstance(found, Strict) else found[key]
        return found


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a strategy needs: the model that trains, and for each task the models that teach and the features read.

    The student of several tasks has a head for each of them; in a step of a task the objective finds its name in
    `Step.task`, and no other teachers than those of that task.
    """

    student: str
    """The model that trains."""
    tasks: tuple[TaskNeeds, ...] = (TaskNeeds(),)
    """At least one; several have names."""
    sampling: Sampling | None = None
    """How several tasks share the micro-batches; in proportion to their data where this is None."""

    def __post_init__(self) -> None:
        assert self.tasks, "a strategy learns a task"
        assert len(self.tasks) == 1 or all(each.task is not None for each in self.tasks), "several tasks have names"

    @property
    def teachers(self) -> tuple[str, ...]:
        """The frozen models, of all tasks."""
        return tuple(dict.fromkeys(teacher for task in self.tasks for teacher in task.teachers))
