"""What a component may read when it is built: a context for each kind, and what is known of a model before it is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from kdspec.api.working.evaluator import State
    from kdspec.api.working.task import BuiltTask


@dataclass(frozen=True)
class Input:
    """What is known of a model input without data."""

    shape: tuple[int, ...]
    """Of a batch: rows first."""
    dtype: str = "int64"
    """The dtype's name in torch."""
    value: int = 1
    """A valid value: 1 for a mask or a token, 0 for a label."""
    target: bool = False
    """Whether it is among `Batch.targets`, and not an input."""


@dataclass(frozen=True, kw_only=True)
class BuildContext:
    """What every component may read; a kind that reads more has a context of its own, derived from this one.

    `BuildContext()` is enough to build a loss, a temperature, a schedule, a layer map, a preset or an augmentation.
    """

    folder: Path = Path()
    """The folder of the spec; relative paths in the spec start there."""
    seed: int = 0
    """The seed of the run, for a component that uses random numbers when it is built."""


@dataclass(frozen=True, kw_only=True)
class ExampleContext(BuildContext):
    """What the example of a batch may read."""

    form: str = ""
    """How the model reads the texts of a row (`Reader.form`)."""


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
    """Number of processes that train together. With more than one, a tensor may be a shard of the parameter: the update
    of an element must not depend on its position in the tensor."""


@dataclass(frozen=True, kw_only=True)
class DatasetContext(BuildContext):
    """What a data set may read: what its task does with the rows."""

    reads: tuple[str, ...] | None = None
    """The columns that the task reads; a mistake in another one does not matter. None: any column."""
    inputs: tuple[str, ...] = ()
    """Those of them with texts, which every row needs."""
    together: tuple[str, ...] = ()
    """The columns of its texts: rows that are equal in them are never in two splits that are parts of one. Default: all
    columns but `classes`."""
    classes: tuple[str, ...] = ()
    """The columns of its classes, which such splits have in equal proportions."""


@dataclass(frozen=True, kw_only=True)
class TrainedHead:
    """The head in the files of a model."""

    model: str
    """The name of the model in the spec."""
    classes: int
    """Number of its logits."""
    labels: tuple[str, ...] = ()
    """Their names in the order of the logits; empty if the files have none of their own (`LABEL_0`)."""
    problem: str | None = None
    """The `problem_type` that the files declare, such as `single_label_classification`."""


def _ignored(fault: Fault) -> None:
    del fault


class FrozenModels(Protocol):
    """The models of a spec as they are in their files, for a task that needs their vectors to make its rows."""

    def digest(self, model: str) -> str:
        """A checksum of the model: its weights, its structure, and its tokenizer with prompts."""

    def states(self, model: str, rows: BuiltTask) -> Sequence[State]:
        """What the evaluator of `validation` rows of a task keeps of the model, by batch."""

    def agreed(self, value: Any) -> Any:
        """The value of the first of several processes, in each of them; it is JSON data. All of them call it."""


@dataclass(frozen=True, kw_only=True)
class TaskContext(BuildContext):
    """What a task may read."""

    heads: tuple[TrainedHead, ...] = ()
    """The heads in the files of the task's models, those of teachers first."""
    reads_labels: bool = True
    """Whether a loss of some stage reads the labels of `train`."""
    tell: Callable[[Fault], None] = _ignored
    """Report something about the rows that does not stop the run; its severity is `warning`, or `note` if the fault has it."""
    recorded: tuple[str, ...] = ()
    """The columns in which models of the stages have recorded their answers, which are read too."""
    frozen: FrozenModels | None = None
    """The models of the spec; None where no weights are read, so that rows are as they are in the files."""
