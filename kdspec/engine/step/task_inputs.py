"""One task of a stage, and a micro-batch that is drawn of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from kdspec.api.step import Features
from kdspec.engine.batches.loader import Batches, Loader
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.teacher_cache.cache import TeacherCache
from kdspec.ops.mean import Unit

TeacherFeatures = Mapping[str, Features]
"""What each teacher says of a micro-batch."""


@dataclass(frozen=True, kw_only=True)
class TaskInputs:
    """One task of a stage: its rows, and the models with what is read of them for it."""

    student: ModelRunner
    teachers: Mapping[str, ModelRunner]
    loader: Loader
    caches: Mapping[str, TeacherCache] = field(default_factory=dict)
    """Of the teachers that have one."""


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """A micro-batch and the task that it is of."""

    task: str
    task_inputs: TaskInputs
    rows: list[int]
    batches: Batches
    """On the CPU; those that a strategy has made itself may be where it has left them."""
    empty: bool = False
    """Whether the rows only stand in, since this process has none: they count for nothing."""

    @cached_property
    def on_device(self) -> Batches:
        """The batches on the device of the models, to which they are copied once, when they are needed."""
        return self.task_inputs.loader.to_device(self.batches)

    @property
    def units(self) -> Mapping[Unit, float]:
        """How many of each unit count in the step."""
        student = self.batches[self.task_inputs.student.name]
        return dict.fromkeys(student.units, 0.0) if self.empty else student.units

    @property
    def size(self) -> int:
        """How many numbers the student is given first, such as tokens, by which lanes share micro-batches."""
        return next(iter(self.batches[self.task_inputs.student.name].tensors.values())).numel()
