"""The kinds of component: the purpose of each, and what its `build(context)` returns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from kdspec.api.component import Component, invalid_value
from kdspec.api.kinds.context import (
    AdaptorContext,
    BuildContext,
    DatasetContext,
    ExampleContext,
    Input,
    LrScheduleContext,
    OptimizerContext,
    TaskContext,
)
from kdspec.api.kinds.losses import LogitKind, Scope, Scoped, is_number
from kdspec.api.kinds.parts import fields, parts

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from kdspec.api.working.task import BuiltTask
    from kdspec.diagnostics.fault import Fault


class Schedule(Component):
    """`f(progress) -> float`: a weight over the stage, progress from 0 to 1."""

    kind: ClassVar[str] = "schedule"

    @classmethod
    def from_plain(cls, value: Any) -> tuple[str, dict[str, Any]] | None:
        """A number is a constant."""
        return ("constant", {"value": value}) if is_number(value) else None

    def always_zero(self) -> bool:
        """Whether the weight is 0 throughout, so that its term is never computed."""
        return False

    @abstractmethod
    def build(self, context: BuildContext) -> Callable[[float], float]:
        """Make the working object; the docstring of the class describes it."""


class LayerMap(Component):
    """`f(teacher_layers, student_layers) -> [(teacher, student), ...]`, with the layer numbers of `hidden_states`.

    The arguments are numbers of hidden layers. For `hidden` index 0 is the embedding output and n the last layer; the
    plan turns the pairs into 0-based ones for `attention`, which has no embedding output. Torch-free.
    """

    kind: ClassVar[str] = "layer_map"
    as_written: ClassVar[bool] = False
    """Whether the pairs are indices into the feature (negative ones count from the end), not layer numbers."""

    @classmethod
    def from_plain(cls, value: Any) -> tuple[str, dict[str, Any]] | None:
        """A mapping of integers is the pairs themselves."""
        if isinstance(value, Mapping) and value and all(type(key) is int for key in value):
            return "explicit", {"pairs": dict(value)}
        return None

    @abstractmethod
    def build(self, context: BuildContext) -> Callable[[int, int], list[tuple[int, int]]]:
        """Make the working object; the docstring of the class describes it."""


class MatchPreset(Component):
    """A list of matches, each as a spec would write it. Torch-free."""

    kind: ClassVar[str] = "match_preset"

    @abstractmethod
    def build(self, context: BuildContext) -> list[dict[str, Any]]:
        """Make the working object; the docstring of the class describes it."""


class Adaptor(Component):
    """A mapping from feature name to field path, or to a list of them. Torch-free."""

    kind: ClassVar[str] = "adaptor"

    @classmethod
    def from_plain(cls, value: Any) -> tuple[str, dict[str, Any]] | None:
        """A mapping of texts is the paths themselves."""
        if isinstance(value, Mapping) and value and not any(isinstance(item, Mapping) for item in value.values()):
            return "paths", {"features": dict(value)}
        return None

    def tasks_named(self) -> Mapping[str, tuple[str | int, ...]]:
        """The tasks that it names, each with the path to it in the parameters."""
        return {}

    def feature_names(self) -> Collection[str]:
        """The features that the spec names directly below the model in `adaptors`. Torch-free."""
        return ()

    @abstractmethod
    def build(self, context: AdaptorContext) -> Mapping[str, str | list[str]]:
        """Make the working object; the docstring of the class describes it."""


class Dataset(Component):
    """Rows: `build` returns a `datasets.DatasetDict` with the splits `train`, `validation`, `test`, `unlabelled`."""

    kind: ClassVar[str] = "dataset"

    def column_names(self, context: BuildContext) -> Mapping[str, Collection[str]]:
        """The column names of each split, as far as the files show them cheaply; may raise a `Fault`. Torch-free."""
        del context
        return {}

    def first(self, context: BuildContext, rows: int) -> Mapping[str, Sequence[Any]] | None:
        """The first rows of `train` by column; None if they take long or need a download."""
        del context, rows
        return None

    def has_split(self, split: str) -> bool | None:
        """Whether it has rows for a split, judging from its parameters; None: not known before it is built."""
        del split
        return None

    def files(self, context: BuildContext) -> Mapping[str, Sequence[Path]] | None:
        """The files that each split is read from; None: not known. Torch-free.

        A run that resumes compares their content, and without them the rows themselves, which are read for it once more.
        """
        del context
        return None

    def why_no_column(self, context: BuildContext, split: str, column: str) -> Fault | None:
        """What is wrong with its parameters if a split lacks a column; None: its files do not show it. Torch-free."""
        del context, split, column
        return None

    def place(self, context: BuildContext, split: str, row: Mapping[str, Any], item: int) -> str | None:
        """Where its files have an item of the lists of a row, such as `train.txt:12`; None: not known."""
        del context, split, row, item
        return None

    @abstractmethod
    def build(self, context: DatasetContext) -> Any:
        """Make the working object; the docstring of the class describes it."""


class Task(Scoped):
    """What is learnt: rows, how they become model inputs, the default adaptor, the hard loss and the metrics."""

    kind: ClassVar[str] = "task"
    head: ClassVar[str | None] = None
    """The kind of head of its models (`Head.kind`), known before any row is read; None for the bare model."""
    logits: ClassVar[LogitKind | None] = None
    """The meaning of its logits. A loss for logits of another kind is an error. None: not declared."""
    positions: ClassVar[bool] = False
    """Whether the logits are over the tokens of a row, so that all models of a stage need the same tokenizer."""
    labelled: ClassVar[bool] = False
    """Whether its head has a class for each label of the rows (`Head.labels`). Where rows are not read, a number of classes is
    assumed."""
    measured_beside: ClassVar[bool] = False
    """Whether models are measured beside a teacher on a split without labels (`BuiltTask.beside_teacher`)."""
    answered: ClassVar[Literal["row", "word"] | None] = None
    """Whether its rows, or each of their words, may have logits that a model without weights has recorded; None: they may not."""
    length_limit: ClassVar[str | None] = None
    """Its parameter for the maximum number of tokens of a row, if it has one."""

    @model_validator(mode="after")
    def _has_rows_to_train_on(self) -> Self:
        for name, part in fields(self):
            if isinstance(part, Dataset) and part.has_split("train") is False:
                raise invalid_value("missing key `train`", name, part.name, "train", type_="missing")
        return self

    def adaptor(self) -> Mapping[str, str | list[str]]:
        """The field paths of this task's features, for a model without an adaptor in the spec. Torch-free."""
        return {}

    def has_labels(self) -> bool:
        """Whether the task's rows have labels. Torch-free."""
        return True

    def has_classes(self) -> bool:
        """Whether its labels are classes with a logit each, so that its models have a confidence in them. Torch-free."""
        return self.labelled and self.logits in ("classes", "labels")

    def has_logits(self) -> bool:
        """Whether its models give logits: without, soft labels that a spec does not write have the weight 0. Torch-free."""
        return True

    def prompts(self) -> Mapping[tuple[str | int, ...], str]:
        """The prompts that it asks of models, by the path of the parameter that names each. Torch-free.

        A model without a prompt of the name reads texts as they are; an error if all models of the task do.
        """
        return {}

    def hard_scope(self, form: str) -> Scope:
        """What its hard loss needs at once in training: `step` for one that the built task computes over whole optimizer steps.

        By default the scope of the task. Torch-free.

        Args:
            form: how the student reads the texts of a row (`Reader.form`).
        """
        del form
        return self.scope

    def hard_features(self, form: str) -> Collection[str]:
        """The features of the student that its hard loss reads in training beside `logits` and `labels`. Torch-free.

        Args:
            form: as for `hard_scope`.
        """
        del form
        return ()

    def label_columns(self) -> Mapping[tuple[str | int, ...], str]:
        """The columns of the labels, by the path of the parameter that names each; empty if there are none. Torch-free.

        `train` needs them if a loss reads labels; a split without one of them is not evaluated.
        """
        return {}

    def column_names(self, context: BuildContext) -> Mapping[str, Collection[str]]:
        """The columns of each split, from its data set or the task that it wraps; may raise a `Fault`. Torch-free."""
        found = next((part for part in parts(self) if isinstance(part, Dataset | Task)), None)
        return {} if found is None else found.column_names(context)

    def why_no_column(self, context: BuildContext, split: str, column: str) -> Fault | None:
        """What is wrong with the parameters of its data set if a split lacks a column; see there. Torch-free."""
        for name, part in fields(self):
            fault = part.why_no_column(context, split, column) if isinstance(part, Dataset | Task) else None
            if fault is not None:
                fault.at = (name, part.name, *fault.at)
                return fault
        return None

    def has_split(self, split: str) -> bool | None:
        """Whether there are rows for a split, from its data set or the task that it wraps; None: not known. Torch-free."""
        found = {part.has_split(split) for part in parts(self) if isinstance(part, Dataset | Task)}
        return found.pop() if len(found) == 1 else None

    def augmentations(self) -> str | None:
        """The key of its augmentations; None without any. They apply to rows that a teacher labels. Torch-free."""
        lists = ((name, value) for name, value in fields(self) if isinstance(value, list) and value)
        return next((name for name, value in lists if all(isinstance(item, Augmentation) for item in value)), None)

    def metric_names(self) -> Collection[str] | None:
        """The metrics that `evaluate` may select by, besides `loss`; None if they depend on the rows. Torch-free."""
        return None

    def answer_columns(self) -> Collection[str] | None:
        """The columns of recorded scores that it reads itself; None: it has no candidates. Torch-free."""
        return None

    def with_answers(self, columns: Collection[str]) -> Task:
        """The task that reads recorded scores from these columns; for one with `answer_columns`. Torch-free."""
        del columns
        return self

    def prompt_columns(self) -> Collection[str] | None:
        """The columns whose texts a prompt may have; None: a model that answers prompts cannot teach it. Torch-free.

        Its rows are encoded by a `PromptTokenizer` where that is the tokenizer of a reader.
        """
        return None

    def search_metrics(self) -> Collection[str]:
        """Those of the metrics that only a model has which reads the texts of a row one by one (`each`). Torch-free."""
        return ()

    def models_named(self) -> Mapping[tuple[str | int, ...], str]:
        """The models of the spec with which its rows are made, by the path of the parameter that names each. Torch-free.

        They are as in their files: no stage trains them before.
        """
        return {}

    def first_answers(self, context: BuildContext, rows: int) -> Sequence[Sequence[float]] | None:
        """The recorded scores of the first rows of `train`, NaN in place of a value that is not numeric; None: not known, or costly.

        A row without scores is empty. Torch-free.
        """
        del context, rows
        return None

    def first_rows(self, context: BuildContext, rows: int) -> Mapping[str, Sequence[Any]] | None:
        """The first rows of `train` by column, from its data set; None: not known, or costly. Torch-free."""
        found = next((part for part in parts(self) if isinstance(part, Dataset)), None)
        return None if found is None else found.first(context, rows)

    def varies(self) -> str | None:
        """Why the inputs of a training row differ in each epoch, as a clause (`its texts are augmented`); None: they do not.

        Teacher outputs for such rows cannot be cached. Torch-free.
        """
        return None

    def logit_positions(self, tokens: int) -> int:
        """The number of tokens with logits that losses read, for a training row of this many tokens. Torch-free."""
        return tokens

    def check(self, context: BuildContext) -> Iterable[Fault]:
        """Whether it is compatible with its files, as far as reading little of them shows; see `Model.check`."""
        del context
        return ()

    def example(self, context: ExampleContext, rows: int, longest: int | None) -> Mapping[str, Input] | None:
        """The inputs of a batch in which every row has the maximum length, at most `longest`, for a model of the context's form.

        Inputs of a field with a name begin with it, as in `Batch.tensors`: `query.input_ids`. Plans show shapes, cost and memory of tasks that have this and `without_rows`. None: not known without data.
        Torch-free.
        """
        del context, rows, longest
        return None

    def sample(self, context: BuildContext, rows: int) -> Sequence[Sequence[str]] | None:
        """The texts of the first rows of `train`, one column or two, by which a plan measures how long rows are.

        None: they take long to read, or rows are not texts, or not one row for each text. Torch-free.
        """
        del context, rows
        return None

    def without_rows(self) -> BuiltTask | None:
        """The built task without its rows, for its head and loss; without labels if these come from the rows.

        None: it cannot be built without rows.
        """
        return None

    def to_predict(self, data: Dataset, labels: Sequence[str]) -> Task | None:
        """The task on rows that a model predicts, which are the split `train` of `data` and have no labels; by default None.

        It has nothing that only training needs, such as augmentations. `BuiltTask.answers` then writes the predictions.

        Args:
            data: the rows; each has its texts.
            labels: the label names in the order of the model's logits.
        """
        del data, labels
        return None

    @abstractmethod
    def build(self, context: TaskContext) -> BuiltTask:
        """Make the working object; the docstring of the class describes it."""


class Augmentation(Component):
    """`f(words, generator) -> words`, with a seeded `random.Random` as its only source of random numbers.

    Words are separated by spaces, and in Chinese and Japanese each character is a word, so that models with different
    tokenizers see the same text. The function may change the list in place. The list may be empty before, but not
    after.
    """

    kind: ClassVar[str] = "augmentation"
    masks: ClassVar[bool] = False
    """Whether it inserts `[MASK]`, which is replaced by the mask token of each tokenizer."""

    @abstractmethod
    def build(self, context: BuildContext) -> Callable[[list[str], Random], list[str]]:
        """Make the working object; the docstring of the class describes it."""


class Optimizer(Component):
    """`f(parameter_groups) -> torch.optim.Optimizer`; the groups are mappings with `params` and own options."""

    kind: ClassVar[str] = "optimizer"

    def splits_decay(self, options: Mapping[str, Any]) -> bool:
        """Whether biases and norms leave a parameter group with these own options, for one with `weight_decay: 0`.

        Both groups then reach the optimizer. Torch-free.
        """
        del options
        return False

    @abstractmethod
    def build(self, context: OptimizerContext) -> Callable[[list[dict[str, Any]]], torch.optim.Optimizer]:
        """Make the working object; the docstring of the class describes it."""


class LrSchedule(Component):
    """`f(step) -> float`, the factor of the learning rate at a step; the first step is 0."""

    kind: ClassVar[str] = "lr_schedule"

    @abstractmethod
    def build(self, context: LrScheduleContext) -> Callable[[int], float]:
        """Make the working object; the docstring of the class describes it."""
