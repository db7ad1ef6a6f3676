"""The inputs of one task of a stage, and its micro-batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from kdspec.api.working.step import Features
from kdspec.engine.batches.loader import Batches, Loader
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.teacher_cache.cache import TeacherCache
from kdspec.ops.mean import Unit

TeacherFeatures = Mapping[str, Features]
"""The features of each teacher for a micro-batch."""


@dataclass(frozen=True, kw_only=True)
class TaskInputs:
    """One task of a stage: its rows, and its models with the features that are read."""

    student: ModelRunner
    teachers: Mapping[str, ModelRunner]
    loader: Loader
    caches: Mapping[str, TeacherCache] = field(default_factory=dict)
    """The caches of the cached teachers."""


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """A micro-batch of one task."""

    task: str
    task_inputs: TaskInputs
    rows: list[int]
    batches: Batches
    """On the CPU; batches that a strategy makes itself may be on its own device."""
    empty: bool = False
    """Whether the rows are placeholders, because this process has none left: they do not contribute to the losses."""

    @cached_property
    def on_device(self) -> Batches:
        """The batches on the device of the models; copied once, when they are first used."""
        return self.task_inputs.loader.to_device(self.batches)

    @property
    def units(self) -> Mapping[Unit, float]:
        """The number of each unit in the step."""
        student = self.batches[self.task_inputs.student.name]
        return dict.fromkeys(student.units, 0.0) if self.empty else student.units

    @property
    def size(self) -> int:
        """The number of elements of the student's first input of each field, such as tokens; lanes share by it."""
        batch = self.batches[self.task_inputs.student.name]
        fields = [tensors for tensors in batch.inputs.values() if tensors] or [batch.targets]
        return sum(next(iter(tensors.values())).numel() for tensors in fields)
