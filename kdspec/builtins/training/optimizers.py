"""Optimizers of torch and learning-rate schedules of transformers, by their usual names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from kdspec.api.component import Component
from kdspec.api.context import BuildContext, LrScheduleContext, OptimizerContext
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds import LrSchedule, Optimizer
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    import torch

FUSED_DEVICES = frozenset({"cpu", "cuda"})
FUSED_TYPES = frozenset({"torch.float32", "torch.float64", "torch.bfloat16"})

Groups = list[dict[str, Any]]
Beta = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[list[Beta], Field(min_length=2, max_length=2)]


class TorchOptimizer(Optimizer):
    """What the optimizers share: each is a class of `torch.optim`, and its fields are that class's arguments."""

    torch_name: ClassVar[str]
    """The class in `torch.optim`."""
    fusible: ClassVar[bool] = False
    """Whether torch has one kernel for a whole step, the same update in less time."""

    lr: float = Field(default=1e-3, gt=0)
    """Learning rate, greater than 0; `lr_schedule` multiplies it."""
    weight_decay: float = Field(default=0.0, ge=0)
    """What part of each weight is added to its gradient; 0 for none."""

    def build(self, context: OptimizerContext) -> Callable[[Groups], torch.optim.Optimizer]:
        import torch

        make = getattr(torch.optim, self.torch_name)

        def optimizer(groups: Groups) -> torch.optim.Optimizer:
            options = self.model_dump()
            if self.fusible and _can_fuse(groups, context.processes):
                options["fused"] = True
            made: torch.optim.Optimizer = make(groups, **options)
            return made

        return optimizer


class Sgd(TorchOptimizer):
    """Stochastic gradient descent, `torch.optim.SGD`."""

    name = "sgd"
    torch_name = "SGD"

    momentum: float = Field(default=0.0, ge=0)
    """What part of the last update goes into the next; 0 for none."""
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

    lr: float = Field(default=5e-5, gt=0)
    """Learning rate, greater than 0; `lr_schedule` multiplies it. The default is for fine-tuning a transformer."""
    betas: Betas = Field(default=[0.9, 0.999])
    """Decay of the running means of the gradient and of its square, each 0 or more and below 1."""
    eps: float = Field(default=1e-8, ge=0)
    """Added to the denominator, against division by 0."""


class AdamW(Adam):
    """Adam with decoupled weight decay, `torch.optim.AdamW`.

    Loshchilov and Hutter 2019 (https://arxiv.org/abs/1711.05101).
    """

    name = "adamw"
    torch_name = "AdamW"

    weight_decay: float = Field(default=0.01, ge=0)
    """What part of each weight, times the learning rate, is subtracted in a step; 0 for none."""


class NAdam(Adam):
    """Adam with Nesterov's momentum, `torch.optim.NAdam` (Dozat 2016)."""

    name = "nadam"
    torch_name = "NAdam"
    fusible = False

    momentum_decay: float = Field(default=4e-3, ge=0)
    """How fast the momentum reaches `betas`."""


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

    lr: float = Field(default=1e-2, gt=0)
    """Learning rate, greater than 0; `lr_schedule` multiplies it."""
    lr_decay: float = Field(default=0.0, ge=0)
    """How fast the learning rate falls with the steps; 0 for not at all."""
    eps: float = Field(default=1e-10, ge=0)
    """Added to the denominator, against division by 0."""


class RMSprop(TorchOptimizer):
    """RMSprop, `torch.optim.RMSprop` (Tieleman and Hinton 2012)."""

    name = "rmsprop"
    torch_name = "RMSprop"

    lr: float = Field(default=1e-2, gt=0)
    """Learning rate, greater than 0; `lr_schedule` multiplies it."""
    alpha: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the running mean of the squared gradient."""
    momentum: float = Field(default=0.0, ge=0)
    """What part of the last update goes into the next; 0 for none."""
    centered: bool = False
    """Divide by the standard deviation of the gradient instead of the root of its mean square."""
    eps: float = Field(default=1e-8, ge=0)
    """Added to the denominator, against division by 0."""


class Adafactor(TorchOptimizer):
    """Adafactor, which needs little memory, `torch.optim.Adafactor`.

    Shazeer and Stern 2018 (https://arxiv.org/abs/1804.04235). An update is relative to the size of its parameter, at a
    rate of min(lr, 1/√step); there is no momentum.
    """

    name = "adafactor"
    torch_name = "Adafactor"

    lr: float = Field(default=1e-2, gt=0)
    """Largest learning rate, relative to the size of a parameter; greater than 0; `lr_schedule` multiplies it."""
    weight_decay: float = Field(default=0.0, ge=0)
    """What part of each weight, times the learning rate, is subtracted in a step; 0 for none."""
    beta2_decay: float = Field(default=-0.8, le=0)
    """Exponent, 0 or less, of the decay of the running mean of the squared gradient."""
    d: float = Field(default=1.0, ge=1)
    """Bound on the root mean square of an update, 1 or more."""


def _can_fuse(groups: Groups, processes: int) -> bool:
    parameters = [parameter for group in groups for parameter in group["params"]]
    # On the CPU the kernel rounds the last elements of a tensor, which fill no vector, otherwise than those before them:
    # the last bit would depend on how FSDP2 has divided it.
    devices = FUSED_DEVICES if processes == 1 else FUSED_DEVICES - {"cpu"}
    return all(p.device.type in devices and str(p.dtype) in FUSED_TYPES for p in parameters)


def _steps_or_part(value: float) -> float:
    if value >= 1 and value != int(value):
        raise PydanticCustomError("not_whole", "from 1 on it is a number of steps, and so a whole number")
    return value


Length = Annotated[float, Field(ge=0), AfterValidator(_steps_or_part)]
"""From 1 on a number of steps, below 1 a part of all steps."""


class ConstantLr(LrSchedule):
    """The learning rate as the optimizer has it, throughout."""

    name = "constant"

    def build(self, context: BuildContext) -> Callable[[int], float]:
        del context
        return lambda _step: 1.0


class WarmUp(LrSchedule):
    """What the schedules of transformers share: a warm-up, in which the factor grows from 0 to 1 in a straight line."""

    warmup: Length = 0.0
    """How long the factor grows from 0: optimizer steps, or below 1 a part of all steps."""

    def options(self, total: int) -> Mapping[str, Any]:
        """The arguments that only this schedule of transformers has."""
        del total
        return {}

    def build(self, context: LrScheduleContext) -> Callable[[int], float]:
        import torch
        from transformers import get_scheduler

        total = context.total_steps
        warmup = _steps(self.warmup, total)
        if warmup and warmup >= total:
            raise _too_long(f"a warm-up of {warmup} steps leaves none of the {total} steps of the stage", "warmup")
        # The factor is a function of the step; transformers only gives it away bound to an optimizer.
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
    """A warm-up and then the learning rate as the optimizer has it."""

    name = "constant_with_warmup"

    warmup: Length
    """How long the factor grows from 0: optimizer steps, or below 1 a part of all steps."""


class LinearDecayLr(WarmUp):
    """A warm-up and then a straight line down to 0 at the end of the stage."""

    name = "linear"


class CosineLr(WarmUp):
    """A warm-up and then half a cosine wave down to 0 at the end of the stage."""

    name = "cosine"


class CosineWithRestarts(WarmUp):
    """A warm-up and then half cosine waves, each from 1 down to 0."""

    name = "cosine_with_restarts"

    cycles: int = Field(default=1, ge=1)
    """The number of half waves; with 1 it is `cosine`."""

    def options(self, total: int) -> Mapping[str, Any]:
        del total
        return {"num_cycles": self.cycles}


class Polynomial(WarmUp):
    """A warm-up and then a power of the part of the steps that remain: `end + (1 - end) remaining^power`."""

    name = "polynomial"

    power: float = Field(default=1.0, gt=0)
    """The exponent, greater than 0; with 1 it is a straight line."""
    end: float = Field(default=0.0, ge=0, lt=1)
    """The factor at the end of the stage, 0 or more and below 1."""

    def options(self, total: int) -> Mapping[str, Any]:
        del total
        return {"power": self.power, "lr_end": self.end}


class InverseSqrt(WarmUp):
    """A warm-up and then the inverse square root of the steps, as in the first Transformer."""

    name = "inverse_sqrt"

    timescale: int | None = Field(default=None, ge=1)
    """In so many steps after the warm-up the factor falls to the root of a half; left out, as many as the warm-up, or
    10000 where there is none."""

    def options(self, total: int) -> Mapping[str, Any]:
        del total
        return {"timescale": self.timescale}


class WarmupStableDecay(WarmUp):
    """A warm-up, then the learning rate as the optimizer has it, then a decay at the end of the stage."""

    name = "warmup_stable_decay"

    decay: Length = 0.1
    """How long the factor falls: optimizer steps, or below 1 a part of all steps."""
    shape: Literal["linear", "cosine", "1-sqrt"] = "cosine"
    """How it falls."""
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
    """A factor that shrinks with each optimizer step: `gamma^step`."""

    name = "exponential"

    gamma: float = Field(gt=0, le=1)
    """What a step multiplies the learning rate by, greater than 0 and no more than 1."""

    def build(self, context: BuildContext) -> Callable[[int], float]:
        del context
        gamma = self.gamma
        return lambda step: gamma**step


class StepLr(LrSchedule):
    """A factor that shrinks from time to time: `gamma^⌊step / every⌋`."""

    name = "step"

    every: int = Field(ge=1)
    """After how many optimizer steps it shrinks."""
    gamma: float = Field(default=0.1, gt=0, le=1)
    """What the learning rate is multiplied by then, greater than 0 and no more than 1."""

    def build(self, context: BuildContext) -> Callable[[int], float]:
        del context
        every, gamma = self.every, self.gamma
        return lambda step: gamma ** (step // every)


def _steps(length: float, total: int) -> int:
    return int(length) if length >= 1 else math.ceil(length * total)


def _too_long(message: str, key: str) -> Fault:
    return Fault("KD104", message, (key,), help="below 1 it is a part of all steps, such as 0.1")


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """Hand over the optimizers and the learning-rate schedules."""
    return [
        *(Sgd, Adam, AdamW, NAdam, RAdam, Adagrad, RMSprop, Adafactor),
        *(ConstantLr, ConstantWithWarmup, LinearDecayLr, CosineLr, CosineWithRestarts, Polynomial, InverseSqrt),
        *(WarmupStableDecay, Exponential, StepLr),
    ]
