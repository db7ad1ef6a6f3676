"""What a rehearsal has found out: shapes, numbers of parameters, cost and memory. Plain data, without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kdspec.api.match import PlannedMatch
from kdspec.api.plan import Plan, StagePlan
from kdspec.diagnostics.finding import Finding


@dataclass(frozen=True)
class Shape:
    """A tensor without contents."""

    shape: tuple[int, ...]
    dtype: str
    """As torch calls it, without `torch.`: `float32`."""
    layer: int | None = None
    """Its index in a layered feature."""

    @property
    def numel(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.shape))}) {self.dtype}"


@dataclass(frozen=True, kw_only=True)
class Initialization:
    """Which tensors of a model are copied from another one."""

    source: str
    """The model that they come from."""
    copied: tuple[tuple[str, str], ...]
    """Pairs of a tensor's name and that of the source's tensor."""
    new: tuple[str, ...]
    """Tensors that are drawn anew."""
    unused: tuple[str, ...]
    """Tensors of the source that nothing is made from."""
    copied_parameters: int
    """How many numbers are copied."""


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """A model as it is built."""

    parameters: int
    """Numbers that can be trained; one that several modules share counts once."""
    bytes: int
    """Of parameters and buffers."""
    initialization: Initialization | None = None


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Floating-point operations for one row of a stage, of matrix products, convolutions and attention."""

    teachers: Mapping[str, int]
    forward: int
    """The student's forward pass."""
    losses: int
    """Losses and projections, forward."""
    backward: int
    """The backward pass of all of it."""

    @property
    def total(self) -> int:
        """Everything that one row costs."""
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
    """What else there is at the worst moment: mostly what the backward pass needs."""

    @property
    def peak(self) -> int:
        """The most at any moment."""
        return self.models + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True, kw_only=True)
class RehearsedStage:
    """One stage. What could not be found out is None or empty, and a finding says why."""

    name: str
    rows: int
    """Rows of the micro-batch that was rehearsed: the stage's batch size."""
    inputs: Mapping[str, Shape] = field(default_factory=dict)
    """The batch, every row as long as rows can be."""
    features: Mapping[str, Mapping[str, tuple[Shape, ...]]] = field(default_factory=dict)
    """For each model the features that are read: a shape a layer, or one a head."""
    matches: tuple[PlannedMatch, ...] = ()
    """With the widths that were found, and projections where they are derived."""
    groups: Mapping[str, int] = field(default_factory=dict)
    """For each group of the optimizer the numbers that it trains."""
    idle: tuple[str, ...] = ()
    """Parameters of the student that no term reaches: they keep their values but for weight decay."""
    ends: Mapping[str, str] = field(default_factory=dict)
    """For each teacher of which only the beginning is computed, the layer or module after which nothing is read."""
    flops: Flops | None = None
    memory: Memory | None = None
    cache: Mapping[str, int] = field(default_factory=dict)
    """For each teacher the bytes that its features take for one row, kept as the spec says."""
    caching: Mapping[str, str] = field(default_factory=dict)
    """For each teacher whether that is kept: `kept in` a folder and on what condition, or `not kept:` and why."""
    tasks: Mapping[str, RehearsedStage] = field(default_factory=dict)
    """Of several tasks, what each has shown; `inputs`, `features`, `ends` and `flops` are then there only."""


def together(name: str, tasks: Mapping[str, RehearsedStage], models: int) -> RehearsedStage:
    """A stage of several tasks.

    Args:
        name: the stage.
        tasks: what each has shown, with an objective that is that of all.
        models: bytes of all models of the stage.
    """
    parts = list(tasks.values())
    groups: dict[str, int] = {}
    for part in parts:
        for group, count in part.groups.items():
            # Projections are of one task, what else is trained is there in all of them.
            groups[group] = groups.get(group, 0) + count if group.startswith("projection") else count
    memories = [part.memory for part in parts if part.memory is not None]
    memory = None
    if memories and len(memories) == len(parts):
        most = {key: max(getattr(each, key) for each in memories) for key in ("gradients", "optimizer", "activations")}
        memory = Memory(models=max(models, *(each.models for each in memories)), **most)
    return RehearsedStage(
        name=name,
        rows=max(part.rows for part in parts),
        matches=tuple(match for part in parts for match in part.matches),
        groups=groups,
        idle=tuple(idle for idle in parts[0].idle if all(idle in part.idle for part in parts)),
        memory=memory,
        cache={teacher: size for part in parts for teacher, size in part.cache.items()},
        caching={teacher: how for part in parts for teacher, how in part.caching.items()},
        tasks=tasks,
    )


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """All stages of a plan."""

    models: Mapping[str, ModelSize] = field(default_factory=dict)
    stages: tuple[RehearsedStage, ...] = ()
    classes_assumed: Mapping[str, int] = field(default_factory=dict)
    """For a task whose labels only its rows tell: the number of classes that was rehearsed."""
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
    """The plan with the widths and projections that the rehearsal has found."""
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
        case ModelSize() | Initialization() | RehearsedStage():
            return {name: _plain(part) for name, part in vars(value).items() if name != "matches"}
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case tuple() | list():
            return [_plain(item) for item in value]
    return value
