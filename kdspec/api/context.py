"""What a component is told when it is built, and what is known of a model before it is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdspec.api.kinds import Model
    from kdspec.api.match import PlannedMatch
    from kdspec.api.task import BuiltTask, Head


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


def _unheard(names: Collection[str]) -> None:
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


@dataclass(frozen=True, kw_only=True)
class BuildContext:
    """Everything a component may be told by `build(context)`; each kind says which of these it reads.

    `BuildContext()` is enough for any component that needs none of them, such as a loss.
    """

    folder: Path = Path()
    """What relative paths in the spec are relative to: the folder of the spec."""
    seed: int = 0
    """For a component that draws random numbers when it is built."""
    name: str = ""
    """The name under which the spec has this component, for models and tasks."""
    student_width: int | None = None
    """For a projection: width of the student's feature."""
    teacher_width: int | None = None
    """For a projection: width of the teacher's feature."""
    head: Head | None = None
    """For a model: the head that its task needs; of several tasks the first one's."""
    heads: Mapping[str, Head] = field(default_factory=_nothing)
    """For a model: the head that each of its tasks needs, by task. More than one: it learns several tasks."""
    learns: Mapping[str, tuple[str, ...]] = field(default_factory=_nothing)
    """For a model: the tasks of each model that takes part, by model."""
    task: str = ""
    """For an adaptor: the task whose features are asked for."""
    trusts_code: bool = False
    """For a model: whether code that comes with its files may be run, as `--trust-remote-code` says and no spec can."""
    models: Mapping[str, Model] = field(default_factory=_nothing)
    """For a model: the models of the spec by name, to resolve `like`."""
    built: Mapping[str, Any] = field(default_factory=_nothing)
    """For a model: modules that exist already, to copy layers from."""
    drawn: Callable[[Collection[str]], None] = _unheard
    """For a model: to be told the names of the parameters that were drawn anew, neither read from files nor copied."""
    weights: bool = True
    """For a model. False: only the shapes matter; no weight is read, and none need be drawn."""
    tasks: Mapping[str, BuiltTask] = field(default_factory=_nothing)
    """For a distiller: the tasks by name."""
    matches: tuple[PlannedMatch, ...] = ()
    """For a distiller: its matches, expanded to layers, with widths filled in."""
    total_steps: int | None = None
    """For a learning-rate schedule: optimizer steps of the stage."""
    facts: Mapping[str, ModelFacts] = field(default_factory=_nothing)
    """For a distiller: what is known of each model."""
    processes: int = 1
    """For an optimizer: how many processes train together. An update of an element is then not to depend on where in its
    tensor it lies, which may be a piece of the whole."""
