"""What a distiller declares that it needs, what it is given in a step, and what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.logits import Logits
    from kdspec.api.match import Match
    from kdspec.api.task_sampling import Sampling
    from kdspec.ops.mean import Mean


@dataclass(frozen=True, kw_only=True)
class LogitUse:
    """How the terms of a strategy read the logits of a teacher."""

    temperatures: tuple[float, ...] = ()
    """Those at which divergences read the probabilities, where nothing else reads the logits."""
    why: str | None = None
    """Why all logits are needed, as a clause (`the loss `mse` compares all logits`); None: the probabilities will do."""
    at: tuple[str | int, ...] = ()
    """The keys of the strategy's parameters where the spec says so, or has the temperature."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """A distiller's declaration; plan, capture and cache come from it."""

    student: str
    """The model that trains."""
    teachers: tuple[str, ...] = ()
    """The frozen models."""
    tasks: tuple[str, ...] = ()
    """The tasks it learns; empty stands for the only task of the spec."""
    reads: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    """For each model the features that must be there (`logits`, `labels`, `losses`, ...)."""
    optional: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    """For each model the features that are read where its adaptor has them (`logits_mask`, `inputs_mask`)."""
    logits: Mapping[str, LogitUse] = field(default_factory=lambda: MappingProxyType({}))
    """For each teacher how its logits are read; all of them where this says nothing of it."""
    hard_labels: bool = False
    """Whether the student's hard loss is read: its `losses` where its adaptor has them, else `logits` and `labels`."""
    unlabelled: bool = False
    """Whether rows without labels teach anything, so that the `unlabelled` split joins the training rows."""
    matches: tuple[Match, ...] = ()
    """Matches between layers; the plan expands them and gives them back in `BuildContext.matches`."""
    default_teacher: str | None = None
    """The teacher of a match that names none; the first teacher where this is None."""
    parts: Mapping[str, Needs] = field(default_factory=lambda: MappingProxyType({}))
    """For a strategy that learns several tasks, what it needs for each, by task; `of_tasks` makes such needs."""
    sampling: Sampling | None = None
    """How several tasks share the micro-batches; in proportion to their data where this is None."""
    at: tuple[str | int, ...] = ()
    """For one of several tasks: the keys of the strategy's parameters below which its `matches` and labels are
    written, so that mistakes are told there."""

    @classmethod
    def of_tasks(cls, parts: Mapping[str, Needs], sampling: Sampling | None = None) -> Needs:
        """The needs of a strategy that teaches one student several tasks, made of those for each.

        The student has a head for every task; in the first step of a task, and in every later one, the objective finds
        its name in `Step.task`, and no other teachers than those of its part.
        """
        every = [replace(part, tasks=(task,)) for task, part in parts.items()]
        students = {part.student for part in every}
        assert len(students) == 1, f"several tasks have one student, not {len(students)}"
        reads: dict[str, frozenset[str]] = {}
        for part in every:
            for model, features in part.reads.items():
                reads[model] = reads.get(model, frozenset()) | features
        return cls(
            student=every[0].student,
            teachers=tuple(dict.fromkeys(teacher for part in every for teacher in part.teachers)),
            tasks=tuple(parts),
            reads=reads,
            hard_labels=any(part.hard_labels for part in every),
            unlabelled=any(part.unlabelled for part in every),
            matches=tuple(match for part in every for match in part.matches),
            parts={part.tasks[0]: part for part in every},
            sampling=sampling,
        )

    def within(self, distiller: Any) -> Any:
        """The strategy, or for one of several tasks the part of its parameters that `at` leads to."""
        found: Any = distiller
        for key in self.at:
            found = getattr(found, str(key)) if hasattr(found, str(key)) else found[key]
        return found

    @property
    def each(self) -> tuple[Needs, ...]:
        """The needs for each task, or these alone where there are no parts."""
        return tuple(self.parts.values()) or (self,)


class Features(Mapping[str, Any]):
    """The features of one model in one step: a tensor, a tuple of tensors, or for a layered feature `{index: tensor}`.

    A feature that the adaptor gives as a list (several logits heads) is a tuple of tensors. Of a layered feature
    (`hidden`, `attention`) only the layers that a match uses are there, under their index counted from 0.

    `logits` are values of the class `Logits`, one or a tuple, and a tensor given for them becomes `DenseLogits`: those of
    a large head are computed when a loss asks for them, and of a recorded teacher only the largest may be known.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)
        if (logits := self._values.get("logits")) is not None:
            from kdspec.api.logits import as_logits

            several = isinstance(logits, (tuple, list))
            self._values["logits"] = tuple(map(as_logits, logits)) if several else as_logits(logits)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def logits(self) -> tuple[Logits, ...]:
        """The logits by head; empty where the model does not have them."""
        return self.heads("logits")

    def heads(self, name: str) -> tuple[Any, ...]:
        """The feature as a tuple of tensors, one a head; empty where the model does not have it."""
        value = self._values.get(name)
        if value is None:
            return ()
        if isinstance(value, Mapping):
            return tuple(value.values())
        return tuple(value) if isinstance(value, (tuple, list)) else (value,)

    def layer(self, name: str, index: int) -> Tensor:
        """One layer of a layered feature."""
        tensor: Tensor = self._values[name][index]
        return tensor


@dataclass(frozen=True, kw_only=True)
class Step:
    """What an objective is given for one micro-batch."""

    student: Features
    teachers: Mapping[str, Features] = field(default_factory=lambda: MappingProxyType({}))
    task: str = ""
    """The task of this micro-batch."""
    progress: float = 0.0
    """Optimizer steps done so far, as a part of the stage: 0 before the first."""

    @property
    def labels(self) -> tuple[Tensor, ...]:
        """The labels, one tensor a head; empty where the task has none."""
        return self.student.heads("labels")


@dataclass(frozen=True)
class Term:
    """A part of the objective: its loss and its weight now. A term of weight 0 is best left out."""

    loss: Tensor | Mean
    weight: float = 1.0
