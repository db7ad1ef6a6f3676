"""The kinds of component: what each is for, and what its `build(context)` returns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

from kdspec.api.component import Component, Strict
from kdspec.api.context import AdaptorContext, BuildContext, Input, LrScheduleContext, OptimizerContext
from kdspec.api.losses import LogitKind, Scoped, is_number

if TYPE_CHECKING:
    import torch

    from kdspec.api.task import BuiltTask
    from kdspec.diagnostics.fault import Fault


class Schedule(Component):
    """`f(progress) -> float`: a weight over the stage, progress from 0 to 1."""

    kind: ClassVar[str] = "schedule"

    @classmethod
    def from_plain(cls, value: Any) -> tuple[str, dict[str, Any]] | None:
        """A number is a constant."""
        return ("constant", {"value": value}) if is_number(value) else None

    def always_zero(self) -> bool:
        """Whether the weight is 0 throughout, so that its term need not be computed at all."""
        return False

    @abstractmethod
    def build(self, context: BuildContext) -> Callable[[float], float]:
        """Make the working object; the class says what it is."""


class LayerMap(Component):
    """`f(teacher_layers, student_layers) -> [(teacher, student), ...]`, counted as `hidden_states` is.

    The arguments are numbers of hidden layers. For `hidden` index 0 is the embedding output and n the last layer; the
    plan turns the pairs into 0-based ones for `attention`, which has no embedding output. Torch-free.
    """

    kind: ClassVar[str] = "layer_map"
    as_written: ClassVar[bool] = False
    """Whether the pairs are indices into the feature as they stand (negative ones from the end), not layer numbers."""

    @classmethod
    def from_plain(cls, value: Any) -> tuple[str, dict[str, Any]] | None:
        """A mapping of integers holds the pairs themselves."""
        if isinstance(value, Mapping) and value and all(_is_integer(key) for key in value):
            return "explicit", {"pairs": dict(value)}
        return None

    @abstractmethod
    def build(self, context: BuildContext) -> Callable[[int, int], list[tuple[int, int]]]:
        """Make the working object; the class says what it is."""


class MatchPreset(Component):
    """A list of matches, each as a spec would write it. Torch-free."""

    kind: ClassVar[str] = "match_preset"

    @abstractmethod
    def build(self, context: BuildContext) -> list[dict[str, Any]]:
        """Make the working object; the class says what it is."""


class Adaptor(Component):
    """A mapping from feature name to field path, or to a list of them. Torch-free."""

    kind: ClassVar[str] = "adaptor"

    @classmethod
    def from_plain(cls, value: Any) -> tuple[str, dict[str, Any]] | None:
        """A mapping of texts holds the paths themselves."""
        if isinstance(value, Mapping) and value and not any(isinstance(item, Mapping) for item in value.values()):
            return "paths", {"features": dict(value)}
        return None

    def tasks_named(self) -> Mapping[str, tuple[str | int, ...]]:
        """The tasks that it names, each with the keys of its parameters that lead there."""
        return {}

    def feature_names(self) -> Collection[str]:
        """The features that the spec names directly below the model in `adaptors`; torch-free."""
        return ()

    @abstractmethod
    def build(self, context: AdaptorContext) -> Mapping[str, str | list[str]]:
        """Make the working object; the class says what it is."""


class Dataset(Component):
    """Rows: `build` returns a `datasets.DatasetDict` with the splits `train`, `validation`, `test`, `unlabelled`."""

    kind: ClassVar[str] = "dataset"

    def column_names(self, context: BuildContext) -> Mapping[str, Collection[str]]:
        """The names of each split's columns, where a look at the files tells them, or a `Fault` raised. Torch-free."""
        del context
        return {}

    def first(self, context: BuildContext, rows: int) -> Mapping[str, Sequence[Any]] | None:
        """The first rows of `train` by column, where they cost little time and no download; else None."""
        del context, rows
        return None

    def has_split(self, split: str) -> bool | None:
        """Whether it has rows for a split, as far as its parameters tell; None: not known before it is built."""
        del split
        return None

    @abstractmethod
    def build(self, context: BuildContext) -> Any:
        """Make the working object; the class says what it is."""


class Task(Scoped):
    """What is learnt: rows, how they become model inputs, the default adaptor, the hard loss and the metrics."""

    kind: ClassVar[str] = "task"
    head: ClassVar[str | None] = None
    """The kind of head of its models (`Head.kind`), told before any row is read; None for the bare model."""
    logits: ClassVar[LogitKind | None] = None
    """What its logits stand for, so that a loss for something else is a mistake; None: not said."""
    positions: ClassVar[bool] = False
    """Whether the logits choose among the tokens of a row, so that all models of a stage need the same tokenizer."""

    def adaptor(self) -> Mapping[str, str | list[str]]:
        """The field paths of this task's features, for a model whose adaptor the spec does not write. Torch-free."""
        return {}

    def has_labels(self) -> bool:
        """Whether the task's rows have labels. Torch-free."""
        return True

    def has_split(self, split: str) -> bool | None:
        """Whether there are rows for a split, as its data set or the task that it wraps says; None: not known. Torch-free."""
        told = {part.has_split(split) for part in parts(self) if isinstance(part, Dataset | Task)}
        return told.pop() if len(told) == 1 else None

    def augmentations(self) -> str | None:
        """The key of its augmentations, None without any. They apply to rows that a teacher answers for. Torch-free."""
        lists = ((name, value) for name, value in fields(self) if isinstance(value, list) and value)
        return next((name for name, value in lists if all(isinstance(item, Augmentation) for item in value)), None)

    def metric_names(self) -> Collection[str] | None:
        """The metrics that `evaluate` may choose by, beside `loss`; None where only the rows tell. Torch-free."""
        return None

    def varies(self) -> str | None:
        """Why a training row has other inputs in each epoch, as a clause (`its texts are augmented`); None: it has not.

        A teacher's answers for such rows cannot be kept from one epoch to the next. Torch-free.
        """
        return None

    def logit_positions(self, tokens: int) -> int:
        """Of a training row with so many tokens, how many have logits that losses read; torch-free."""
        return tokens

    def check(self, context: BuildContext) -> Iterable[Fault]:
        """Whether it goes together with its files, as far as little reading shows; see `Model.check`."""
        del context
        return ()

    def example(self, context: BuildContext, rows: int, longest: int | None) -> Mapping[str, Input] | None:
        """The inputs of a batch in which every row is as long as rows can be, but for those longer than `longest`.

        Plans show shapes, cost and memory of a task that has this and `without_rows`. None: not known without data.
        Torch-free.
        """
        del context, rows, longest
        return None

    def without_rows(self) -> BuiltTask | None:
        """The built task without its rows, for its head and loss; without labels if only rows have them.

        None: it cannot be made.
        """
        return None

    @abstractmethod
    def build(self, context: BuildContext) -> BuiltTask:
        """Make the working object; the class says what it is."""


class Augmentation(Component):
    """`f(words, generator) -> words`, with a seeded `random.Random` as its only source of random numbers.

    Words are separated by spaces, and in Chinese and Japanese each character is a word, so that models with different
    tokenizers see the same text. The function may change the list in place. The list may be empty before, but not
    after.
    """

    kind: ClassVar[str] = "augmentation"
    masks: ClassVar[bool] = False
    """Whether it puts in `[MASK]`, which stands for the mask token of each tokenizer."""

    @abstractmethod
    def build(self, context: BuildContext) -> Callable[[list[str], Random], list[str]]:
        """Make the working object; the class says what it is."""


class Optimizer(Component):
    """`f(parameter_groups) -> torch.optim.Optimizer`; the groups are mappings with `params` and own options."""

    kind: ClassVar[str] = "optimizer"

    @abstractmethod
    def build(self, context: OptimizerContext) -> Callable[[list[dict[str, Any]]], torch.optim.Optimizer]:
        """Make the working object; the class says what it is."""


class LrSchedule(Component):
    """`f(step) -> float`, the factor of the learning rate at a step counted from 0; from an `LrScheduleContext`."""

    kind: ClassVar[str] = "lr_schedule"

    @abstractmethod
    def build(self, context: LrScheduleContext) -> Callable[[int], float]:
        """Make the working object; the class says what it is."""


def fields(group: Strict) -> Iterator[tuple[str, Any]]:
    """The parameters of a component or a group of them, as a spec calls them, with their values."""
    for name, field in type(group).model_fields.items():
        yield field.alias or name, getattr(group, name)


def parts(group: Strict) -> Iterator[Component]:
    """The components among the parameters."""
    return (value for _, value in fields(group) if isinstance(value, Component))


def switched_off(group: Strict) -> tuple[str, Schedule] | None:
    """The weight of a group of parameters, with its key, if it is 0 throughout, so that nothing of it is computed."""
    weights = ((name, value) for name, value in fields(group) if isinstance(value, Schedule))
    return next(((name, weight) for name, weight in weights if weight.always_zero()), None)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
