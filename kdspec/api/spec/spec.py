"""The pydantic models of a spec: what a user may write, innermost first."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from kdspec.api.component import Strict, by_name, invalid_value
from kdspec.api.kinds.distiller import Distiller
from kdspec.api.kinds.kinds import Adaptor, LrSchedule, Optimizer, Task
from kdspec.api.kinds.model import Model
from kdspec.api.spec.bounds import LARGEST_BATCH, LARGEST_FACTOR, Count, Epochs
from kdspec.api.spec.cache_settings import TeacherCacheSettings
from kdspec.api.spec.names import Distinct, Name

LargestNorm = Annotated[float, Field(gt=0, le=LARGEST_FACTOR)]
MicroBatches = Annotated[int, Field(gt=0, le=LARGEST_BATCH)]
Lanes = Annotated[int, Field(gt=0, le=1024)]
"""More than any CPU has cores: each lane has buffers and a thread of its own."""


def _one_of(model: Strict, *keys: str, required: bool) -> None:
    given = [key for key in keys if getattr(model, key) is not None]
    if len(given) > 1:
        listed = " and ".join(f"`{key}`" for key in given)
        raise PydanticCustomError("exclusive_keys", "{listed} exclude each other", {"listed": listed, "keys": given})
    if required and not given:
        raise PydanticCustomError("missing_key", "missing key `{key}`", {"key": keys[0], "others": list(keys[1:])})


def _version(value: Any) -> Any:
    if isinstance(value, (bool, float)):  # Python takes both for 1
        raise PydanticCustomError("literal_error", "input should be 1", {"expected": "1"})
    return value


class Evaluate(Strict):
    """When the student is evaluated on the validation split, and the metric that selects the best one."""

    every_steps: Count | None = None
    """Evaluate every so many optimizer steps. Each evaluation is preceded by a checkpoint."""
    every_epochs: Epochs | None = None
    """Evaluate every so many epochs; 1 if neither is given."""
    metric: str | None = None
    """The metric that selects the best student (the best checkpoint); default: the task's own."""

    @model_validator(mode="after")
    def _once(self) -> Self:
        _one_of(self, "every_steps", "every_epochs", required=False)
        return self


class CheckpointSettings(Strict):
    """When a checkpoint is saved, and how many are kept."""

    every_steps: Count | None = None
    """Save every so many optimizer steps."""
    every_epochs: Epochs | None = None
    """Save every so many epochs; 1 if neither is given."""
    keep: Count = 2
    """Number of checkpoints to keep, besides the best."""

    @model_validator(mode="after")
    def _once(self) -> Self:
        _one_of(self, "every_steps", "every_epochs", required=False)
        return self


class EarlyStopping(Strict):
    """Early stopping: end the stage when the metric no longer improves."""

    patience: Count
    """Number of evaluations in a row without improvement after which the stage ends."""


class GradientNorm(Strict):
    """Gradient clipping by the global L2 norm."""

    value: LargestNorm
    """The largest norm."""
    scope: Literal["all", "student"] = "all"
    """`all`: student, projections and loss parameters together; `student`: the student alone, as in TextBrewer."""


def _norm(value: Any) -> Any:
    return {"value": value} if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _cache(value: Any) -> Any:
    return {"use": value} if isinstance(value, (str, bool)) else value


BatchingName = Literal["auto", "random", "sorted_micro_batches", "length_grouped"]


class Batching(Strict):
    """How rows become batches, and batches become micro-batches of similar length, to reduce padding."""

    by: BatchingName = "auto"
    """`random`: micro-batches of `batch_size` random rows. `sorted_micro_batches`: the same rows in each optimizer step,
    split into length-sorted micro-batches where that saves more padding than it costs; the gradient is the same.
    `length_grouped`: each step has rows of similar length; the steps are in random order. `auto`:
    `sorted_micro_batches` if that leaves the gradient unchanged, else `random`; `kdspec plan` reports which and why."""
    tokens: Count | None = None
    """Maximum number of tokens of a micro-batch, padding included, in place of `batch_size` rows. The rows of a step are
    sorted by length and split to fit. A longer row is a micro-batch of its own."""

    @model_validator(mode="after")
    def _tokens(self) -> Self:
        if self.by == "random" and self.tokens is not None:
            raise invalid_value("with `by: random` micro-batches are not split by `tokens`", "tokens")
        return self


def _batching(value: Any) -> Any:
    return {"by": value} if isinstance(value, str) else value


class Training(Strict):
    """How long and how a stage trains."""

    epochs: Epochs | None = None
    """Passes over the training rows; fractions are allowed. This or `steps`."""
    steps: Count | None = None
    """Number of optimizer steps. This or `epochs`."""
    batch_size: MicroBatches = 32
    """Number of rows of a micro-batch, per process."""
    accumulate: MicroBatches = 1
    """Gradient accumulation: micro-batches per optimizer step; the last step of an epoch may have fewer."""
    batching: Annotated[Batching, BeforeValidator(_batching, json_schema_input_type=BatchingName | Batching)] = by_name(
        "auto"
    )
    """How rows become batches: `auto`, `random`, `sorted_micro_batches`, `length_grouped`, or `{tokens: 4096}` for
    micro-batches of at most so many tokens."""
    optimizer: Optimizer = by_name("adamw")
    """The optimizer and its learning rate."""
    lr_schedule: LrSchedule = by_name("linear")
    """Learning-rate schedule over the stage, warmup included."""
    max_grad_norm: Annotated[
        GradientNorm | None, BeforeValidator(_norm, json_schema_input_type=LargestNorm | GradientNorm | None)
    ] = by_name(1.0)
    """Gradient clipping: the largest norm, as a number or `{value, scope}`. `null`: no clipping."""
    normalize: Literal["step", "micro_batch"] = "step"
    """`step`: every row or token of an optimizer step has the same weight; `micro_batch`: every micro-batch does."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Mixed precision of the student's forward and backward pass (autocast); weights stay in fp32."""
    teacher_precision: Literal["fp32", "bf16", "fp16"] | None = None
    """Precision of the teachers; the stage then keeps a copy of their weights in it. Default: that of the student, with
    weights in fp32. On hardware that multiplies `bf16` faster, it is the cheapest way to a faster first epoch."""
    lanes: Lanes = 1
    """Number of micro-batches computed in parallel on the CPU; each gets a share of the threads. The step is split into at
    least this many micro-batches of about equal token count, if that leaves the gradient unchanged. With two, a step
    takes up to an eighth less time, most where layers are narrow."""
    gradient_checkpointing: bool = False
    """Recompute the student's activations in the backward pass, to save memory."""
    compile: bool = False
    """Compile the layers of the student, and of teachers that are not cached, with `torch.compile`. For GPUs: a CPU is
    seldom faster with it. The first steps take minutes, and dropout masks differ."""
    shuffle: bool = True
    """Shuffle the rows in each epoch; the order is a function of the seed and the epoch."""
    teacher_cache: Annotated[
        TeacherCacheSettings,
        BeforeValidator(_cache, json_schema_input_type=Literal["auto", "on", "off"] | TeacherCacheSettings),
    ] = by_name("auto")
    """Cache teacher outputs on disk, so that each teacher runs once: `auto`, `on`, `off`, or a mapping of settings."""
    evaluate: Evaluate | None = by_name({})
    """When to evaluate. `null`: never."""
    checkpoint: CheckpointSettings = by_name({})
    """When to save checkpoints."""
    early_stopping: EarlyStopping | None = None
    """End the stage when the metric no longer improves. Default: never."""
    calibrate: Literal["temperature", "vector"] | None = None
    """Fit the confidence of the trained student to the validation rows, by the negative log-likelihood: one `temperature` by
    which all logits of a task are divided, or a scale and a bias of each class (`vector`). It is multiplied into the last
    layer of the saved student. Default: not."""
    log_every: Count = 10
    """Log the losses every so many optimizer steps; they are read from the device only then."""

    @model_validator(mode="after")
    def _length(self) -> Self:
        _one_of(self, "epochs", "steps", required=True)
        return self

    @model_validator(mode="after")
    def _batches(self) -> Self:
        batching = self.batching
        split = batching.tokens is not None or batching.by == "sorted_micro_batches"
        if split and self.normalize == "micro_batch":
            message = "length-sorted micro-batches cannot all have the same weight; write `normalize: step`"
            raise invalid_value(message, "normalize")
        if batching.by == "length_grouped" and not self.shuffle:
            raise invalid_value("length-grouped batches are shuffled; write `shuffle: true`", "shuffle")
        return self


class Stage(Strict):
    """One training: a strategy and its settings."""

    distiller: Distiller
    """The strategy: `supervised`, `general`, ..."""
    training: Training
    """How long and how."""


class Spec(Strict):
    """A distillation, from data to student."""

    kdspec: Annotated[Literal[1], BeforeValidator(_version)]
    """Version of this format."""
    name: Name
    """Name of the run; its output is in `runs/<name>/`."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of all randomness: data order, dropout, random initialisation."""
    tasks: Annotated[dict[Name, Task], Field(min_length=1), Distinct]
    """What is learnt: data, how rows become inputs, metrics."""
    models: Annotated[dict[Name, Model], Field(min_length=1), Distinct]
    """Teachers and students."""
    adaptors: Annotated[dict[Name, Adaptor], Distinct] = {}
    """Where the features of a model are. Default: the task's adaptor."""
    stages: Annotated[dict[Name, Stage], Field(min_length=1), Distinct]
    """The stages, in order. A finished stage is not run again."""
