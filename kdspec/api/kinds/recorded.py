"""The rows in which a model without weights has its answers, and what it reads of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdspec.api.kinds.losses import LogitKind
from kdspec.diagnostics.fault import Fault

Answer = list[float] | list[list[float] | None]
"""The logits of a row, one for each class; or those of each of its words, None for a word without an answer."""


def _ignored(fault: Fault) -> None:
    del fault


@dataclass(frozen=True, kw_only=True)
class RecordedRows:
    """The rows of a split, or the first ones of it, with the columns that `Model.records` names."""

    split: str
    columns: Mapping[str, Sequence[Any]] = field(repr=False)
    """The values of each column, by row."""
    logits: LogitKind
    """What the logits of the task are."""
    task: str = "task"
    """The name of the task."""
    classes: tuple[str, ...] = ()
    """The classes of the task in the order of the logits; empty if they are not known before all rows are read."""
    named: bool = True
    """Whether the spec names the classes in their order."""
    words: Sequence[int] | None = None
    """Number of words of each row, where each word has an answer; None: a row has one."""
    tell: Callable[[Fault], None] = _ignored
    """Report what does not stop the run; its severity is `warning`, or `note` if the fault has it."""
