"""The result of a rehearsal: shapes, parameter counts, cost and memory. Plain data, without torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kdspec.api.plan.plan import Plan, StagePlan
from kdspec.api.spec.match import PlannedMatch
from kdspec.diagnostics.finding import Finding


@dataclass(frozen=True)
class Shape:
    """A tensor without contents."""

    shape: tuple[int, ...]
    dtype: str
    """The name of the torch type, without `torch.`: `float32`."""
    layer: int | None = None
    """Its index in a layered feature."""

    @property
    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.shape))}) {self.dtype}"


@dataclass(frozen=True, kw_only=True)
class Initialization:
    """How a model is initialised from another one."""

    source: str
    """The other model."""
    copied: tuple[tuple[str, str], ...]
    """Pairs of tensor names: in this model, and in the source."""
    new: tuple[str, ...]
    """Tensors that are randomly initialised."""
    unused: tuple[str, ...]
    """Tensors of the source that are not copied."""
    copied_parameters: int
    """Number of parameters that are copied."""


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """A model as it is built."""

    parameters: int
    """Number of parameters; a shared one counts once."""
    bytes: int
    """Bytes of parameters and buffers."""
    initialization: Initialization | None = None


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Floating-point operations for a row of median length in a stage, of matrix products, convolutions and attention."""

    teachers: Mapping[str, int]
    forward: int
    """The student's forward pass."""
    losses: int
    """Losses and projections, forward."""
    backward: int
    """The backward pass of all of it."""

    @property
    def total(self) -> int:
        """All operations for one row."""
        return sum(self.teachers.values()) + self.forward + self.losses + self.backward


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on the device while a stage trains, at its batch size and longest rows."""

    models: int
    """Parameters and buffers of all models, and of projections and losses."""
    gradients: int
    optimizer: int
    """The optimizer's state."""
    activations: int
    """The rest at the peak: mostly tensors saved for the backward pass."""

    @property
    def peak(self) -> int:
        """The maximum over the step."""
        return self.models + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Numbers of tokens of the rows of `train`, as they are read: at most the limit of the task."""

    median: int
    longest: int
    rows: int
    """Number of rows from which they were taken."""


@dataclass(frozen=True, kw_only=True)
class RehearsedStage:
    """One stage. A part that could not be rehearsed is None or empty, and a finding gives the reason."""

    name: str
    rows: int
    """Rows of the micro-batch that was rehearsed: the stage's batch size."""
    lengths: Lengths | None = None
    """The lengths of the rows, where they could be read; else all rows are as long as the task and the models allow."""
    row_tokens: int | None = None
    """Tokens of the row that `flops` and `cache` are of: the median; None if rows have no tokens."""
    inputs: Mapping[str, Shape] = field(default_factory=dict)
    """The batch, with rows of maximum length: that of the rows, or else that which is allowed."""
    features: Mapping[str, Mapping[str, tuple[Shape, ...]]] = field(default_factory=dict)
    """For each model the features that are read: a shape for each layer or head."""
    matches: tuple[PlannedMatch, ...] = ()
    """The matches with actual widths and derived projections."""
    groups: Mapping[str, int] = field(default_factory=dict)
    """The number of trained parameters of each optimizer group."""
    decayed: Mapping[str, int] = field(default_factory=dict)
    """How many of them have weight decay; empty if that is not known."""
    unused: tuple[str, ...] = ()
    """Parameters of the student that receive no gradient: only weight decay changes them."""
    ends: Mapping[str, str] = field(default_factory=dict)
    """For each teacher that stops early, the layer or module after which its forward pass stops."""
    flops: Flops | None = None
    memory: Memory | None = None
    cache: Mapping[str, int] = field(default_factory=dict)
    """For each teacher the bytes of a row of median length in its cache, with the settings of the spec."""
    caching: Mapping[str, str] = field(default_factory=dict)
    """For each teacher whether it is cached: `cached in` a folder and the condition, or `not cached:` and the reason."""
    tasks: Mapping[str, RehearsedStage] = field(default_factory=dict)
    """The result of each task of a stage with several; only these then have `inputs`, `features`, `ends` and `flops`."""


def together(name: str, tasks: Mapping[str, RehearsedStage], models: int) -> RehearsedStage:
    """A stage of several tasks.

    Args:
        name: the stage.
        tasks: the result of each task, rehearsed with the objective of the stage.
        models: bytes of all models of the stage.
    """
    parts = list(tasks.values())
    memories = [part.memory for part in parts if part.memory is not None]
    memory = None
    if memories and len(memories) == len(parts):
        most = {key: max(getattr(each, key) for each in memories) for key in ("gradients", "optimizer", "activations")}
        memory = Memory(models=max(models, *(each.models for each in memories)), **most)
    return RehearsedStage(
        name=name,
        rows=max(part.rows for part in parts),
        matches=tuple(match for part in parts for match in part.matches),
        groups=_summed([part.groups for part in parts]),
        decayed=_summed([part.decayed for part in parts]),
        unused=tuple(unused for unused in parts[0].unused if all(unused in part.unused for part in parts)),
        memory=memory,
        cache={teacher: size for part in parts for teacher, size in part.cache.items()},
        caching={teacher: how for part in parts for teacher, how in part.caching.items()},
        tasks=tasks,
    )


def _summed(of_tasks: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The optimizer groups of a stage, from those of its tasks."""
    found: dict[str, int] = {}
    for groups in of_tasks:
        for group, count in groups.items():
            # Projections belong to one task; all other groups are shared by the tasks, so they are counted once.
            found[group] = found.get(group, 0) + count if group.startswith("projection") else count
    return found


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """All stages of a plan."""

    models: Mapping[str, ModelSize] = field(default_factory=dict)
    stages: tuple[RehearsedStage, ...] = ()
    classes_assumed: Mapping[str, int] = field(default_factory=dict)
    """The assumed number of classes of each task with labels that are known only from its rows."""
    findings: tuple[Finding, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether there are errors."""
        return any(finding.severity == "error" for finding in self.findings)


def as_data(rehearsal: Rehearsal) -> dict[str, Any]:
    """The rehearsal as data for JSON, with the names of the classes above; `findings` and `matches` are left out.

    `models` and `stages` are by name. `flops` has a `total`, `memory` a `peak`.
    """
    stages = {stage.name: _plain(stage) for stage in rehearsal.stages}
    for stage in stages.values():
        for part in (stage, *stage["tasks"].values()):
            del part["name"]
            if not part["tasks"]:
                del part["tasks"]
    return {
        "models": _plain(rehearsal.models),
        "stages": stages,
        "classes_assumed": dict(rehearsal.classes_assumed),
    }


def settled(plan: Plan, rehearsal: Rehearsal) -> Plan:
    """The plan with the widths and projections found by the rehearsal."""
    found = {stage.name: stage.matches for stage in rehearsal.stages if stage.matches}
    return replace(plan, stages=tuple(_settled(stage, found.get(stage.name, stage.matches)) for stage in plan.stages))


def _settled(stage: StagePlan, matches: tuple[PlannedMatch, ...]) -> StagePlan:
    tasks = {
        name: replace(task, matches=tuple(match for match in matches if match.task in ("", name)))
        for name, task in stage.tasks.items()
    }
    return replace(stage, tasks=tasks)


def _plain(value: Any) -> Any:
    match value:
        case Shape():
            layer = {} if value.layer is None else {"layer": value.layer}
            return {"shape": list(value.shape), "dtype": value.dtype, **layer}
        case Flops():
            return {name: _plain(part) for name, part in vars(value).items()} | {"total": value.total}
        case Memory():
            return vars(value) | {"peak": value.peak}
        case ModelSize() | Initialization() | RehearsedStage() | Lengths():
            return {name: _plain(part) for name, part in vars(value).items() if name != "matches"}
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case tuple() | list():
            return [_plain(item) for item in value]
    return value
