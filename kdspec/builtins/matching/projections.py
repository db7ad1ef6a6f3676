"""Projections from the student's width to the teacher's: a linear layer, alone or followed by an activation."""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext, ProjectionContext
from kdspec.api.kinds.losses import Projection
from kdspec.api.spec.bounds import LARGEST_RATE

if TYPE_CHECKING:
    from torch import nn

STANDARD_DEVIATION = 0.02

ACTIVATIONS: Mapping[str, tuple[str, str]] = types.MappingProxyType(
    {
        "celu": ("CELU", "max(0, x) + min(0, exp(x) - 1)"),
        "elu": ("ELU", "x where x > 0, else exp(x) - 1"),
        "gelu": ("GELU", "x Φ(x), Φ the normal distribution function"),
        "hardshrink": ("Hardshrink", "x where |x| > 0.5, else 0"),
        "hardsigmoid": ("Hardsigmoid", "x/6 + 1/2, clipped to 0 and 1"),
        "hardswish": ("Hardswish", "x times hardsigmoid(x)"),
        "hardtanh": ("Hardtanh", "x, clipped to -1 and 1"),
        "leaky_relu": ("LeakyReLU", "x where x > 0, else 0.01 x"),
        "logsigmoid": ("LogSigmoid", "log(1 / (1 + exp(-x)))"),
        "mish": ("Mish", "x tanh(softplus(x))"),
        "prelu": ("PReLU", "x where x > 0, else a x with a trained a, initially 0.25"),
        "relu": ("ReLU", "max(0, x)"),
        "relu6": ("ReLU6", "x, clipped to 0 and 6"),
        "selu": ("SELU", "1.0507 x where x > 0, else 1.7581 (exp(x) - 1)"),
        "sigmoid": ("Sigmoid", "1 / (1 + exp(-x))"),
        "silu": ("SiLU", "x sigmoid(x)"),
        "softplus": ("Softplus", "log(1 + exp(x))"),
        "softshrink": ("Softshrink", "x moved towards 0 by 0.5"),
        "softsign": ("Softsign", "x / (1 + |x|)"),
        "tanh": ("Tanh", "tanh(x)"),
        "tanhshrink": ("Tanhshrink", "x - tanh(x)"),
    }
)
"""The element-wise activations by their usual names: the class in `torch.nn` and what it computes."""


class Linear(Projection):
    """A linear layer `W h + b` from the student's width to the teacher's.

    Initialised as W ~ N(0, 0.02²) and b = 0, as in TextBrewer. It is trained, clipped and saved with the student.
    """

    name = "linear"
    scope = "position"

    lr: float | None = Field(default=None, gt=0, le=LARGEST_RATE)
    """Learning rate of the projection. Default: the optimizer's."""
    weight_decay: float | None = Field(default=None, ge=0, le=LARGEST_RATE)
    """Weight decay of the projection. Default: the optimizer's."""

    def packs(self) -> bool:
        return True

    def build(self, context: ProjectionContext) -> nn.Module:
        from torch import nn

        layer = nn.Linear(context.student_width, context.teacher_width)
        nn.init.normal_(layer.weight, std=STANDARD_DEVIATION)
        nn.init.zeros_(layer.bias)
        return layer

    def optimizer_options(self) -> Mapping[str, Any]:
        return self.model_dump(exclude_none=True)


class Activated(Linear):
    """The base class of projections with an activation; `activated` makes one for each."""

    activation: ClassVar[str]
    """The class in `torch.nn`."""

    def build(self, context: ProjectionContext) -> nn.Module:
        from torch import nn

        return nn.Sequential(super().build(context), getattr(nn, self.activation)())


class Drop(Linear):
    """The linear layer of `linear`, by the name that says what becomes of it: it is thrown away after training.

    For `embedding` the student's vectors then have their own width, and cannot be compared with those of the teacher.
    """

    name = "drop"
    scope = "position"


class Keep(Projection):
    """For `embedding`: a linear layer `W v + b` that is part of the student, before its vectors are normalised.

    It is trained, evaluated and saved with it: the student's vectors have the teacher's width, so that small queries search
    large documents. It is initialised as a new layer of the student's family. This is the default where widths differ.
    Paper: Vujanic and Rueckstiess 2025, "LEAF: Knowledge Distillation of Text Embedding Models with Teacher-Aligned
    Representations" (https://arxiv.org/abs/2509.12539).
    """

    name = "keep"
    scope = "position"
    keeps: ClassVar[Literal["keep", "fold"] | None] = "keep"

    def packs(self) -> bool:
        return True

    def build(self, context: ProjectionContext) -> nn.Module:
        return Linear().build(context)


class Fold(Keep):
    """For `embedding`: as `keep`, and multiplied into the last dense layer of the student's readout when it is saved.

    The saved student has one layer, `W₂ W₁ v + W₂ b₁ + b₂`, in place of two, and gives the same vectors. The last dense
    layer of its own must have no activation.
    """

    name = "fold"
    scope = "position"
    keeps = "fold"


class NoProjection(Projection):
    """No projection: different widths are an error instead of deriving one."""

    name = "none"
    scope = "position"
    projects = False

    def packs(self) -> bool:
        return True

    def build(self, context: BuildContext) -> nn.Module:
        from torch import nn

        del context
        return nn.Identity()


@cache
def activated(name: str, activation: str, formula: str) -> type[Projection]:
    """The projection `name`: a linear layer followed by `torch.nn`'s `activation`."""
    contents = {
        "__doc__": f"A linear layer as in `linear`, followed by {activation}: {formula}.",
        "__module__": __name__,
        "name": name,
        "activation": activation,
    }
    made = types.new_class(f"Linear{activation}", (Activated,), exec_body=lambda namespace: namespace.update(contents))
    return cast("type[Projection]", made)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The projections."""
    return [
        Linear,
        Drop,
        Keep,
        Fold,
        NoProjection,
        *(activated(name, *activation) for name, activation in ACTIVATIONS.items()),
    ]
