"""The models of a spec: what a user may write, in the order in which one would read it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from kdspec.api.component import Strict, by_name
from kdspec.api.kinds import Adaptor, Distiller, LrSchedule, Model, Optimizer, Task
from kdspec.spec.teacher_cache import TeacherCacheSettings

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def _safe_name(value: str) -> str:
    if not _NAME.fullmatch(value) or ".." in value or _RESERVED.fullmatch(value):
        raise PydanticCustomError("bad_name", "`{name}` cannot be a name", {"name": value})
    return value


Name = Annotated[str, AfterValidator(_safe_name)]
"""A name that is also the name of a folder: letters, digits, `.`, `_` and `-`."""

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


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
    """When the student is evaluated on the validation rows, and by what it is judged."""

    every_steps: PositiveInt | None = None
    """Evaluate each time this many optimizer steps are done."""
    every_epochs: PositiveFloat | None = None
    """Evaluate each time this many epochs are done; 1 where neither is given."""
    metric: str | None = None
    """The metric that chooses the best student; the task's own where it is left out."""

    @model_validator(mode="after")
    def _once(self) -> Self:
        _one_of(self, "every_steps", "every_epochs", required=False)
        return self


class CheckpointSettings(Strict):
    """When the state of the run is saved, and how many of these are kept."""

    every_steps: PositiveInt | None = None
    """Save each time this many optimizer steps are done."""
    every_epochs: PositiveFloat | None = None
    """Save each time this many epochs are done; 1 where neither is given."""
    keep: PositiveInt = 2
    """How many checkpoints are kept, beside the best."""

    @model_validator(mode="after")
    def _once(self) -> Self:
        _one_of(self, "every_steps", "every_epochs", required=False)
        return self


class EarlyStopping(Strict):
    """Stop when evaluation no longer improves."""

    patience: PositiveInt
    """How many evaluations in a row may pass without a better one."""


class GradientNorm(Strict):
    """Clipping of the gradient by its global L2 norm."""

    value: PositiveFloat
    """The largest norm."""
    scope: Literal["all", "student"] = "all"
    """`all`: student, projections and loss parameters together; `student`: the student alone, as TextBrewer."""


def _norm(value: Any) -> Any:
    return {"value": value} if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _cache(value: Any) -> Any:
    return {"use": value} if isinstance(value, (str, bool)) else value


BatchingName = Literal["auto", "random", "sorted_micro_batches", "length_grouped"]


class Batching(Strict):
    """How rows become batches, and batches become micro-batches of similar length, so that little is padded."""

    by: BatchingName = "auto"
    """`random`: micro-batches of `batch_size` rows as they are drawn. `sorted_micro_batches`: the same rows in each
    optimizer step, sorted by length and cut where that saves more padding than it costs; the gradient is the same.
    `length_grouped`: rows of similar length make a step, in random order. `auto`: `sorted_micro_batches` where its
    gradient is known to be the same, else `random`; `kdspec plan` says which and why."""
    tokens: PositiveInt | None = None
    """The most tokens of a micro-batch, padding included, in place of `batch_size` rows: the rows of a step are sorted
    and cut such that they fit. A longer row is alone."""

    @model_validator(mode="after")
    def _cut(self) -> Self:
        if self.by == "random" and self.tokens is not None:
            raise PydanticCustomError("without_effect", "with `by: random` micro-batches are not cut by `tokens`")
        return self


def _batching(value: Any) -> Any:
    return {"by": value} if isinstance(value, str) else value


class Training(Strict):
    """How long and how a stage trains."""

    epochs: PositiveFloat | None = None
    """Passes over the training rows; parts of an epoch are allowed. This or `steps`."""
    steps: PositiveInt | None = None
    """Optimizer steps. This or `epochs`."""
    batch_size: PositiveInt = 32
    """Rows of a micro-batch, in each process."""
    accumulate: PositiveInt = 1
    """Micro-batches of an optimizer step; at the end of an epoch it may have fewer."""
    batching: Annotated[Batching, BeforeValidator(_batching, json_schema_input_type=BatchingName | Batching)] = by_name(
        "auto"
    )
    """How rows become batches: `auto`, `random`, `sorted_micro_batches`, `length_grouped`, or `{tokens: 4096}` for a
    largest micro-batch in tokens."""
    optimizer: Optimizer = by_name("adamw")
    """The optimizer and its learning rate."""
    lr_schedule: LrSchedule = by_name("linear")
    """How the learning rate changes over the stage."""
    max_grad_norm: Annotated[
        GradientNorm | None, BeforeValidator(_norm, json_schema_input_type=PositiveFloat | GradientNorm | None)
    ] = by_name(1.0)
    """Largest gradient norm: a number, or `{value, scope}`. `null`: no clipping."""
    normalize: Literal["step", "micro_batch"] = "step"
    """`step`: every row or token of an optimizer step counts the same; `micro_batch`: every micro-batch does."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the student's forward and backward pass; weights stay in fp32."""
    teacher_precision: Literal["fp32", "bf16", "fp16"] | None = None
    """Arithmetic of the teachers, of whose weights the stage then has a copy in it. Left out: that of the student, with
    weights in fp32. Where a processor multiplies `bf16` faster, that is the cheapest way to a faster first epoch."""
    lanes: PositiveInt = 1
    """Micro-batches of a step that a processor computes side by side, each with a part of its threads; a step has at
    least so many then, of equally many tokens, where the gradient is known to be the same. With two a step takes up to
    an eighth less time, most where layers are narrow."""
    gradient_checkpointing: bool = False
    """Compute the student's activations again in the backward pass, to save memory."""
    compile: bool = False
    """Have `torch.compile` make one kernel of what layers do between products, of the student and of teachers that run.
    For GPUs: a processor is seldom faster with it. The first steps take minutes, and dropout draws other masks."""
    shuffle: bool = True
    """Draw the rows of each epoch in a new random order, a function of the seed and the epoch."""
    teacher_cache: Annotated[
        TeacherCacheSettings,
        BeforeValidator(_cache, json_schema_input_type=Literal["auto", "on", "off"] | TeacherCacheSettings),
    ] = by_name("auto")
    """Keep what frozen teachers say of each row, so that they run once: `auto`, `on`, `off`, or how."""
    evaluate: Evaluate | None = by_name({})
    """When to evaluate. `null`: never."""
    checkpoint: CheckpointSettings = by_name({})
    """When to save."""
    early_stopping: EarlyStopping | None = None
    """Stop before the end when nothing improves."""
    log_every: PositiveInt = 10
    """Read losses off the device, and log them, each time this many optimizer steps are done."""

    @model_validator(mode="after")
    def _length(self) -> Self:
        _one_of(self, "epochs", "steps", required=True)
        return self

    @model_validator(mode="after")
    def _batches(self) -> Self:
        batching = self.batching
        cut = batching.tokens is not None or batching.by == "sorted_micro_batches"
        if cut and self.normalize == "micro_batch":
            raise PydanticCustomError(
                "without_effect",
                "micro-batches that are cut by length cannot all count the same; write `normalize: step`",
            )
        if batching.by == "length_grouped" and not self.shuffle:
            raise PydanticCustomError("without_effect", "rows that are grouped by length are drawn: `shuffle: true`")
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
    """Name of the run; its output goes to `runs/<name>/`."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of everything that is random: data order, dropout, new weights."""
    tasks: Annotated[dict[Name, Task], Field(min_length=1)]
    """What is learnt: data, how rows become inputs, metrics."""
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    """Teachers and students."""
    adaptors: dict[Name, Adaptor] = {}
    """For a model, where its features are; the task's default for a model that is not here."""
    stages: Annotated[dict[Name, Stage], Field(min_length=1)]
    """What is done, in order. A finished stage is not run again."""
