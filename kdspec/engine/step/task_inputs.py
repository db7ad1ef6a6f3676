"""One task of a stage, and a micro-batch that is drawn of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kdspec.engine.batches.loader import Batches, Loader
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.teacher_cache.cache import TeacherCache


@dataclass(frozen=True, kw_only=True)
class TaskInputs:
    """One task of a stage: its rows, and the models with what is read of them for it."""

    student: ModelRunner
    teachers: Mapping[str, ModelRunner]
    loader: Loader
    labels: frozenset[str]
    """Keys of a batch that hold labels."""
    caches: Mapping[str, TeacherCache] = field(default_factory=dict)
    """Of the teachers that have one."""


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """A micro-batch and the task that it is of."""

    task: str
    task_inputs: TaskInputs
    rows: list[int]
    batches: Batches
    empty: bool = False
    """Whether the rows only stand in, since this process has none: they count for nothing."""
