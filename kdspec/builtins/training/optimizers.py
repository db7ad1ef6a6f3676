"""Optimizers of torch and learning-rate schedules of transformers, by their usual names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext, LrScheduleContext, OptimizerContext
from kdspec.api.kinds.kinds import LrSchedule, Optimizer
from kdspec.api.spec.bounds import LARGEST_COUNT, LARGEST_RATE
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    import torch

FUSED_DEVICES = frozenset({"cpu", "cuda"})
FUSED_TYPES = frozenset({"torch.float32", "torch.float64", "torch.bfloat16"})

Groups = list[dict[str, Any]]
Beta = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[list[Beta], Field(min_length=2, max_length=2)]


class TorchOptimizer(Optimizer):
    """The base class of the optimizers: each is a class of `torch.optim`, with its arguments as fields."""

    torch_name: ClassVar[str]
    """The class in `torch.optim`."""
    fusible: ClassVar[bool] = False
    """Whether torch has a fused kernel for it: the same update in less time."""

    lr: float = Field(default=1e-3, gt=0, le=LARGEST_RATE)
    """Learning rate, greater than 0; `lr_schedule` multiplies it."""
    weight_decay: float = Field(default=0.0, ge=0, le=LARGEST_RATE)
    """Weight decay: the fraction of each weight that is added to its gradient; 0 for none."""
    decay: Literal["weights", "all"] = "weights"
    """Which parameters decay: `weights`, all but biases and norms; or `all`. Vectors and scalars count as biases."""

    def splits_decay(self, options: Mapping[str, Any]) -> bool:
        return self.decay == "weights" and options.get("weight_decay", self.weight_decay) > 0

    def build(self, context: OptimizerContext) -> Callable[[Groups], torch.optim.Optimizer]:
        import torch

        make = getattr(torch.optim, self.torch_name)

        def optimizer(groups: Groups) -> torch.optim.Optimizer:
            options = self.model_dump(exclude={"decay"})
            if self.fusible and _can_fuse(groups, context.processes):
                options["fused"] = True
            made: torch.optim.Optimizer = make(groups, **options)
            return made

        return optimizer


class Sgd(TorchOptimizer):
    """Stochastic gradient descent, `torch.optim.SGD`."""

    name = "sgd"
    torch_name = "SGD"

    momentum: float = Field(default=0.0, ge=0, le=1)
    """Momentum: the fraction of the last update that is added to the next; 0 for none."""
    nesterov: bool = False
    """Nesterov's momentum; needs `momentum`."""

    @field_validator("nesterov")
    @classmethod
    def _nesterov_needs_momentum(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
        if value and info.data.get("momentum") == 0:
            raise PydanticCustomError("without_effect", "`nesterov` needs a `momentum` greater than 0")
        return value


class Adam(TorchOptimizer):
    """Adam, `torch.optim.Adam` (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980)."""

    name = "adam"
    torch_name = "Adam"
    fusible = True

    lr: float = Field(default=5e-5, gt=0, le=LARGEST_RATE)
    """Learning rate, greater than 0; `lr_schedule` multiplies it. The default is for fine-tuning a transformer."""
    betas: Betas = Field(default=[0.9, 0.999])
    """Decay rates of the running means of the gradient and of its square, each 0 or more and below 1."""
    eps: float = Field(default=1e-8, ge=0, le=LARGEST_RATE)
    """Added to the denominator, against division by 0."""


class AdamW(Adam):
    """Adam with decoupled weight decay, `torch.optim.AdamW`.

    Loshchilov and Hutter 2019 (https://arxiv.org/abs/1711.05101).
    """

    name = "adamw"
    torch_name = "AdamW"

    weight_decay: float = Field(default=0.01, ge=0, le=LARGEST_RATE)
    """What part of each weight, times the learning rate, is subtracted in a step; 0 for none."""


class NAdam(Adam):
    """Adam with Nesterov's momentum, `torch.optim.NAdam` (Dozat 2016)."""

    name = "nadam"
    torch_name = "NAdam"
    fusible = False

    momentum_decay: float = Field(default=4e-3, ge=0, le=1)
    """Decay rate with which the momentum approaches `betas`."""


class RAdam(Adam):
    """Adam with its early variance rectified, `torch.optim.RAdam`.

    Liu et al. 2020 (https://arxiv.org/abs/1908.03265).
    """

    name = "radam"
    torch_name = "RAdam"
    fusible = False


class Adagrad(TorchOptimizer):
    """Adagrad, `torch.optim.Adagrad` (Duchi et al. 2011)."""

    name = "adagrad"
    torch_name = "Adagrad"

    lr: float = Field(default=1e-2, gt=0, le=LARGEST_RATE)
    """Learning rate, greater than 0; `lr_schedule` multiplies it."""
    lr_decay: float = Field(default=0.0, ge=0, le=LARGEST_RATE)
    """Decay of the learning rate over the steps; 0 for none."""
    eps: float = Field(default=1e-10, ge=0, le=LARGEST_RATE)
    """Added to the denominator, against division by 0."""


class RMSprop(TorchOptimizer):
    """RMSprop, `torch.optim.RMSprop` (Tieleman and Hinton 2012)."""

    name = "rmsprop"
    torch_name = "RMSprop"

    lr: float = Field(default=1e-2, gt=0, le=LARGEST_RATE)
    """Learning rate, greater than 0; `lr_schedule` multiplies it."""
    alpha: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the running mean of the squared gradient."""
    momentum: float = Field(default=0.0, ge=0, le=1)
    """What part of the last update goes into the next; 0 for none."""
    centered: bool = False
    """Divide by the standard deviation of the gradient instead of the root of its mean square."""
    eps: float = Field(default=1e-8, ge=0, le=LARGEST_RATE)
    """Added to the denominator, against division by 0."""


class Adafactor(TorchOptimizer):
    """Adafactor, which needs little memory, `torch.optim.Adafactor`.

    Shazeer and Stern 2018 (https://arxiv.org/abs/1804.04235). An update is relative to the size of its parameter, at a
    rate of min(lr, 1/√step); there is no momentum.
    """

    name = "adafactor"
    torch_name = "Adafactor"

    lr: float = Field(default=1e-2, gt=0, le=LARGEST_RATE)
    """Largest learning rate, relative to the size of a parameter; greater than 0; `lr_schedule` multiplies it."""
    weight_decay: float = Field(default=0.0, ge=0, le=LARGEST_RATE)
    """What part of each weight, times the learning rate, is subtracted in a step; 0 for none."""
    beta2_decay: float = Field(default=-0.8, le=0)
    """Exponent, 0 or less, of the decay of the running mean of the squared gradient."""
    d: float = Field(default=1.0, ge=1, le=LARGEST_RATE)
    """Bound on the root mean square of an update, 1 or more."""


def _can_fuse(groups: Groups, processes: int) -> bool:
    parameters = [parameter for group in groups for parameter in group["params"]]
    # On the CPU the fused kernel rounds the last elements of a tensor, which do not fill a SIMD vector, differently from
    # the others: the last bit would depend on how FSDP2 shards the tensor.
    devices = FUSED_DEVICES if processes == 1 else FUSED_DEVICES - {"cpu"}
    return all(p.device.type in devices and str(p.dtype) in FUSED_TYPES for p in parameters)


def _steps_or_part(value: float) -> float:
    if value >= 1 and value != int(value):
        raise PydanticCustomError("not_whole", "from 1 it is a number of steps and must be an integer")
    return value


Length = Annotated[float, Field(ge=0, le=LARGEST_COUNT), AfterValidator(_steps_or_part)]
"""From 1 a number of steps, below 1 a fraction of all steps."""


class ConstantLr(LrSchedule):
    """The optimizer's learning rate throughout."""

    name = "constant"

    def build(self, context: BuildContext) -> Callable[[int], float]:
        del context
        return lambda _step: 1.0


class WarmUp(LrSchedule):
    """The base class of transformers' schedules: a warm-up, in which the factor grows linearly from 0 to 1."""

    warmup: Length = 0.0
    """How long the factor grows from 0: optimizer steps, or below 1 a part of all steps."""

    def options(self, total: int) -> Mapping[str, Any]:
        """The arguments that are specific to this schedule of transformers."""
        del total
        return {}

    def build(self, context: LrScheduleContext) -> Callable[[int], float]:
        import torch
        from transformers import get_scheduler

        total = context.total_steps
        warmup = _steps(self.warmup, total)
        if warmup and warmup >= total:
            raise _too_long(f"a warm-up of {warmup} steps leaves none of the {total} steps of the stage", "warmup")
        # transformers returns the factor only bound to an optimizer, so the schedule is built with a dummy one.
        bystander = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        schedule = get_scheduler(
            self.name,
            bystander,
            num_warmup_steps=warmup,
            num_training_steps=total,
            scheduler_specific_kwargs=dict(self.options(total)),
        )
        factor: Callable[[int], float] = schedule.lr_lambdas[0]
        return factor


class ConstantWithWarmup(WarmUp):
    """A warm-up and then the optimizer's learning rate."""

    name = "constant_with_warmup"

    warmup: Length
    """How long the factor grows from 0: optimizer steps, or below 1 a part of all steps."""


class LinearDecayLr(WarmUp):
    """A warm-up and then a linear decay to 0 at the end of the stage."""

    name = "linear"


class CosineLr(WarmUp):
    """A warm-up and then a half cosine wave down to 0 at the end of the stage."""

    name = "cosine"


class CosineWithRestarts(WarmUp):
    """A warm-up and then half cosine waves, each from 1 down to 0."""

    name = "cosine_with_restarts"

    cycles: int = Field(default=1, ge=1, le=LARGEST_COUNT)
    """The number of half waves; with 1 it is `cosine`."""

    def options(self, total: int) -> Mapping[str, Any]:
        del total
        return {"num_cycles": self.cycles}


class Polynomial(WarmUp):
    """A warm-up and then a power of the fraction of remaining steps: `end + (1 - end) remaining^power`."""

    name = "polynomial"

    power: float = Field(default=1.0, gt=0, le=100)
    """The exponent, greater than 0; with 1 the decay is linear."""
    end: float = Field(default=0.0, ge=0, lt=1)
    """The factor at the end of the stage, 0 or more and below 1."""

    def options(self, total: int) -> Mapping[str, Any]:
        del total
        return {"power": self.power, "lr_end": self.end}


class InverseSqrt(WarmUp):
    """A warm-up and then the inverse square root of the steps, as in the first Transformer."""

    name = "inverse_sqrt"

    timescale: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    """The number of steps after the warm-up in which the factor falls to the root of a half. Default: the length of the
    warm-up, or 10000 without one."""

    def options(self, total: int) -> Mapping[str, Any]:
        del total
        return {"timescale": self.timescale}


class WarmupStableDecay(WarmUp):
    """A warm-up, then the optimizer's learning rate, then a decay at the end of the stage."""

    name = "warmup_stable_decay"

    decay: Length = 0.1
    """How long the factor falls: optimizer steps, or below 1 a part of all steps."""
    shape: Literal["linear", "cosine", "1-sqrt"] = "cosine"
    """The shape of the decay."""
    end: float = Field(default=0.0, ge=0, lt=1)
    """The factor at the end of the stage and at the beginning of the warm-up, 0 or more and below 1."""

    def options(self, total: int) -> Mapping[str, Any]:
        warmup, decay = _steps(self.warmup, total), _steps(self.decay, total)
        if warmup + decay > total:
            raise _too_long(
                f"{warmup} steps of warm-up and {decay} of decay are more than the stage's {total}", "decay"
            )
        return {"num_decay_steps": decay, "decay_type": self.shape, "min_lr_ratio": self.end}


class Exponential(LrSchedule):
    """A factor that decays with each optimizer step: `gamma^step`."""

    name = "exponential"

    gamma: float = Field(gt=0, le=1)
    """The factor of each step, greater than 0 and at most 1."""

    def build(self, context: BuildContext) -> Callable[[int], float]:
        del context
        gamma = self.gamma
        return lambda step: gamma**step


class StepLr(LrSchedule):
    """A factor that decays at intervals: `gamma^⌊step / every⌋`."""

    name = "step"

    every: int = Field(ge=1, le=LARGEST_COUNT)
    """The interval in optimizer steps."""
    gamma: float = Field(default=0.1, gt=0, le=1)
    """The factor of each interval, greater than 0 and at most 1."""

    def build(self, context: BuildContext) -> Callable[[int], float]:
        del context
        every, gamma = self.every, self.gamma
        return lambda step: gamma ** (step // every)


def _steps(length: float, total: int) -> int:
    return int(length) if length >= 1 else math.ceil(length * total)


def _too_long(message: str, key: str) -> Fault:
    return Fault("KD104", message, (key,), help="below 1 it is a fraction of all steps, such as 0.1")


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The optimizers and the learning-rate schedules."""
    return [
        *(Sgd, Adam, AdamW, NAdam, RAdam, Adagrad, RMSprop, Adafactor),
        *(ConstantLr, ConstantWithWarmup, LinearDecayLr, CosineLr, CosineWithRestarts, Polynomial, InverseSqrt),
        *(WarmupStableDecay, Exponential, StepLr),
    ]
