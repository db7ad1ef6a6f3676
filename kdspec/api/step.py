"""What an objective is given in a step, and what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kdspec.api.batch import Batch

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.logits import Logits
    from kdspec.ops.mean import Mean


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
    batch: Batch = field(default_factory=lambda: Batch(inputs={}))
    """The rows as the student is given them."""
    progress: float = 0.0
    """Optimizer steps done so far, as a part of the stage: 0 before the first."""

    @property
    def labels(self) -> tuple[Tensor, ...]:
        """The labels, one tensor a head; empty where the task has none."""
        return self.student.heads("labels")


@dataclass(frozen=True)
class View:
    """What a loss of the scope `step` compares of some rows: entry n of each tensor is of row n."""

    student: tuple[Tensor, ...]
    """Of the student; the gradient flows through these."""
    teacher: tuple[Tensor, ...] = ()
    mask: Tensor | None = None
    """The tokens that count, `(rows, length)`; None where rows have no tokens, or all of them count."""


@dataclass(frozen=True)
class Term:
    """A part of the objective: its loss and its weight now. A term of weight 0 is best left out."""

    loss: Tensor | Mean
    weight: float = 1.0
