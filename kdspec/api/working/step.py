"""The input of an objective in a step, and its output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kdspec.api.working.batch import Batch

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.working.logits import Logits
    from kdspec.ops.mean import Mean


class Features(Mapping[str, Any]):
    """The features of one model in one step: a tensor, a tuple of tensors, or for a layered feature `{index: tensor}`.

    A feature that the adaptor gives as a list (several logits heads) is a tuple of tensors. A layered feature (`hidden`,
    `attention`) has only the layers that a match uses, by index from 0.

    `logits` are values of the class `Logits`, one or a tuple; a tensor is converted to `DenseLogits`. The logits of a
    large head are computed when a loss reads them. Of a cached teacher only the largest may be known.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)
        if (logits := self._values.get("logits")) is not None:
            from kdspec.api.working.logits import as_logits

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
        """The logits by head; empty if the model does not have them."""
        return self.heads("logits")

    def heads(self, name: str) -> tuple[Any, ...]:
        """The feature as a tuple of tensors, one per head; empty if the model does not have it."""
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
    """The input of an objective for one micro-batch."""

    student: Features
    teachers: Mapping[str, Features] = field(default_factory=lambda: MappingProxyType({}))
    task: str = ""
    """The task of this micro-batch."""
    batch: Batch = field(default_factory=lambda: Batch(inputs={}))
    """The batch of the student."""
    progress: float = 0.0
    """Fraction of the stage's optimizer steps that are done: 0 before the first."""

    @property
    def labels(self) -> tuple[Tensor, ...]:
        """The labels, one tensor per head; empty if the task has none."""
        return self.student.heads("labels")


@dataclass(frozen=True)
class View:
    """The tensors of some rows that a loss of the scope `step` compares: entry n of each tensor belongs to row n.

    Where rows have several texts, entry n of a tensor may belong to text n.
    """

    student: tuple[Tensor, ...]
    """Those of the student; the gradient flows through them."""
    teacher: tuple[Tensor, ...] = ()
    mask: Tensor | None = None
    """The non-padding tokens, `(rows, length)`; None if rows have no tokens, or none is padding."""


@dataclass(frozen=True)
class Term:
    """A part of the objective: its loss and its current weight. Leave out terms of weight 0."""

    loss: Tensor | Mean
    weight: float = 1.0
