"""What a component may read when it is built: a context for each kind, and what is known of a model before it is built."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from kdspec.api.kinds import Model
    from kdspec.api.match import PlannedMatch
    from kdspec.api.task import BuiltTask, Head


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


def _not_recorded(names: Collection[str]) -> None:
    del names


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What is known of a model without its weights; None stands for unknown."""

    layers: int | None = None
    """Number of hidden layers; `output.hidden_states` has one more, the embedding output first."""
    width: int | None = None
    """Width of the hidden states."""
    heads: int | None = None
    """Attention heads of a layer."""
    family: str | None = None
    """The `model_type` of a transformers model."""
    classes: int | None = None
    """Classes of the head that its files have."""
    labels: tuple[str, ...] = ()
    """The names of these classes in the order of the logits, where its files name them."""
    architecture: str | None = None
    """The class that its files are of, such as `BertModel`; empty where all its weights are drawn anew."""
    vocabulary: int | None = None
    """Tokens that it has embeddings for, where its configuration says."""


@dataclass(frozen=True)
class Input:
    """What is known of a model input without data."""

    shape: tuple[int, ...]
    """Of a batch: rows first."""
    dtype: str = "int64"
    """As torch calls it."""
    value: int = 1
    """Something that it may hold: 1 for a mask or a token, 0 for a label."""
    target: bool = False
    """Whether it is among `Batch.targets`, and not an input."""


@dataclass(frozen=True, kw_only=True)
class BuildContext:
    """What every component may read; a kind that reads more has a context of its own, derived from this one.

    `BuildContext()` is enough to build a loss, a temperature, a schedule, a layer map, a preset or an augmentation.
    """

    folder: Path = Path()
    """The folder of the spec: what relative paths in a spec are relative to."""
    seed: int = 0
    """The seed of the run, for a component that draws random numbers when it is built."""


@dataclass(frozen=True, kw_only=True)
class AdaptorContext(BuildContext):
    """What an adaptor may read."""

    task: str
    """The task whose features are asked for."""


@dataclass(frozen=True, kw_only=True)
class ProjectionContext(BuildContext):
    """What a projection may read."""

    student_width: int
    """Width of the student's feature."""
    teacher_width: int
    """Width of the teacher's feature."""


@dataclass(frozen=True, kw_only=True)
class LrScheduleContext(BuildContext):
    """What a learning-rate schedule may read."""

    total_steps: int
    """Optimizer steps of the stage."""


@dataclass(frozen=True, kw_only=True)
class OptimizerContext(BuildContext):
    """What an optimizer may read."""

    processes: int = 1
    """How many processes train together. With more than one, a tensor may be a shard of the parameter: the update of an
    element must not depend on its position in the tensor."""


@dataclass(frozen=True, kw_only=True)
class ModelContext(BuildContext):
    """What a model may read."""

    name: str = ""
    """The name of the model in the spec."""
    head: Head | None = None
    """The head that its task needs; of several tasks the first one's. None: the model without a head."""
    heads: Mapping[str, Head] = field(default_factory=_nothing)
    """The head that each of its tasks needs, by task. More than one: the model learns several tasks."""
    task: str = ""
    """The task whose part of a model of several tasks is built on its own; empty for a whole model."""
    learns: Mapping[str, tuple[str, ...]] = field(default_factory=_nothing)
    """The tasks of each model of the stages, by model."""
    models: Mapping[str, Model] = field(default_factory=_nothing)
    """The models of the spec by name, to resolve `like`."""
    facts: Mapping[str, ModelFacts] = field(default_factory=_nothing)
    """What is known of each model, for `Model.check`."""
    built: Mapping[str, nn.Module] = field(default_factory=_nothing)
    """The models that are built already, to copy layers from."""
    weights: bool = True
    """False: only the shapes matter. No weight is read, and none need be initialised."""
    on_initialised: Callable[[Collection[str]], None] = _not_recorded
    """To be called with the names of the parameters that are randomly initialised, neither read from files nor copied."""
    trusts_code: bool = False
    """Whether code that comes with the model's files may be run. `--trust-remote-code` says so, never a spec."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveContext(BuildContext):
    """What a distiller may read to build its objective."""

    tasks: Mapping[str, BuiltTask] = field(default_factory=_nothing)
    """The tasks of the stage by name."""
    matches: tuple[PlannedMatch, ...] = ()
    """The distiller's matches, expanded to layers, with widths filled in."""
    facts: Mapping[str, ModelFacts] = field(default_factory=_nothing)
    """What is known of each model."""
