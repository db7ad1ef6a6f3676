"""What a distiller declares that it needs, what it is given in a step, and what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.match import Match
    from kdspec.ops.mean import Mean


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
    hard_labels: bool = False
    """Whether the student's hard loss is read: its `losses` where its adaptor has them, else `logits` and `labels`."""
    unlabelled: bool = False
    """Whether rows without labels teach anything, so that the `unlabelled` split joins the training rows."""
    matches: tuple[Match, ...] = ()
    """Matches between layers; the plan expands them and gives them back in `BuildContext.matches`."""
    default_teacher: str | None = None
    """The teacher of a match that names none; the first teacher where this is None."""


class Features(Mapping[str, Any]):
    """The features of one model in one step: a tensor, a tuple of tensors, or for a layered feature `{index: tensor}`.

    A feature that the adaptor gives as a list (several logits heads) is a tuple of tensors. Of a layered feature
    (`hidden`, `attention`) only the layers that a match uses are there, under their index counted from 0.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def heads(self, name: str) -> tuple[Tensor, ...]:
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
