"""A wrapper of losses between embeddings: the same loss for prefixes of the vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.losses import FeatureLoss, Scope
from kdspec.api.spec.bounds import LARGEST_FACTOR, LARGEST_WIDTH
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.api.plan.plan import Plan
    from kdspec.ops.mean import Mean

Width = Annotated[int, Field(gt=0, le=LARGEST_WIDTH)]
Weight = Annotated[float, Field(gt=0, le=LARGEST_FACTOR)]


class Matryoshka(FeatureLoss):
    """A loss for several prefixes of the embedding: `Σ_k weight_k · loss(student[:width_k], teacher)`.

    The student's vectors can then be cut to each of these widths, for smaller indexes. A loss that needs equal widths gets
    the teacher's prefix of the same width. One between similarities gets the teacher's whole vectors, since only few teachers
    have been trained for prefixes. Losses of cosines normalise each prefix again.
    Reduction, mask and scope are those of the wrapped loss; the values are summed. Include the whole width to train it too.
    Paper: Kusupati et al. 2022, "Matryoshka Representation Learning" (https://arxiv.org/abs/2205.13147), equation 1.
    """

    name = "matryoshka"
    feature = "embedding"
    compares_positions = False

    loss: FeatureLoss = Field(examples=["cos"])
    """The loss of each prefix: one that compares `embedding`."""
    widths: list[Width] = Field(min_length=1, examples=[[64, 128, 256]])
    """Widths of the prefixes."""
    weights: list[Weight] | None = None
    """Factor of each width, in the order of `widths`. Default: 1 each."""

    @property
    def scope(self) -> Scope:  # type: ignore[override]  # it is that of the wrapped loss
        return "row" if self.loss.scope == "position" else self.loss.scope

    @property
    def same_width(self) -> bool:  # type: ignore[override]  # it is that of the wrapped loss
        return self.loss.same_width

    @field_validator("loss")
    @classmethod
    def _of_vectors(cls, value: FeatureLoss) -> FeatureLoss:
        context = {"name": value.name, "feature": value.feature}
        if isinstance(value, Matryoshka):
            raise PydanticCustomError(
                "wrong_value", "`{name}` cannot be wrapped again; list all widths in one", context
            )
        if not value.vectors and value.feature not in (None, "embedding"):
            message = "`{name}` is a loss for `{feature}`, not for prefixes of `embedding`"
            raise PydanticCustomError("wrong_value", message, context)
        if value.arity != 1:
            raise PydanticCustomError("wrong_value", "`{name}` compares pairs of layers, not embeddings", context)
        return value

    @field_validator("widths")
    @classmethod
    def _once(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise PydanticCustomError("wrong_value", "each width is listed once")
        return value

    @field_validator("weights")
    @classmethod
    def _one_each(cls, value: list[float] | None, info: ValidationInfo) -> list[float] | None:
        widths: list[int] = info.data.get("widths", [])  # none if they are an error themselves
        if value is not None and widths and len(value) != len(widths):
            context = {"widths": len(widths)}
            raise PydanticCustomError("wrong_value", "write a weight for each of the {widths} widths", context)
        return value

    def build(self, context: BuildContext) -> Callable[..., Tensor | Mean]:
        from kdspec.ops.embeddings.prefixes import Prefixes

        weights = self.weights or [1.0] * len(self.widths)
        # One loss a width: a queue, or parameters of its own, are of vectors of this width.
        parts = [(width, weight, self.loss.build(context)) for width, weight in zip(self.widths, weights, strict=True)]
        return Prefixes(parts, cuts_teacher=self.loss.same_width)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The wrapper."""
    return [Matryoshka]


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Matches of prefixes that are wider than the embedding of the model."""
    for stage in plan.stages:
        for match in stage.matches:
            if not isinstance(match.loss, Matryoshka):
                continue
            # A student is projected to the teacher's width where the loss needs equal ones.
            cut = match.loss.same_width
            model, width = (match.teacher, match.teacher_width) if cut else (match.student, match.student_width)
            if width is None or max(match.loss.widths) <= width:
                continue
            number = next(n for n, each in enumerate(match.loss.widths) if each > width)
            at = (*match.path, "loss", match.loss.name, "widths", number)
            message = f"`{match.feature}` of `{model}` is {width} wide, and a prefix of it cannot be {match.loss.widths[number]} wide"
            also = (Mark(("models", model), f"{width} wide", key=True),)
            yield Finding("KD302", message, at, "too wide", also=also, help=f"write widths up to {width}")
