"""Temperatures of soft labels: one for all rows or for each side, or one for each row by its difficulty."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from pydantic import Field

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.losses import Temperature
from kdspec.api.spec.bounds import LARGEST_TEMPERATURE, LEAST_TEMPERATURE

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.ops.temperature import Sides


class ConstantTemperature(Temperature):
    """The same temperature for every row and step; a plain number is short for it: `temperature: 8`."""

    name = "constant"
    scope = "position"

    value: float = Field(ge=LEAST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    """The temperature, from 0.001; 1 does not change the distributions, higher ones soften them."""

    def to_plain(self) -> float:
        return self.value

    def fixed(self) -> Collection[float]:
        return (self.value,)

    def build(self, context: BuildContext) -> Callable[[Tensor, Tensor, float], float | Tensor]:
        del context
        value = self.value
        return lambda _student, _teacher, _progress: value


class SideTemperatures(Temperature):
    """A temperature for the student's logits and one for the teacher's, short `temperature: {student: 0.05, teacher: 1}`.

    For scores of other scales: the cosines of a student that compares vectors, between -1 and 1, and the scores of a
    cross-encoder, between -10 and 10. Divided by their temperatures they should have about the same spread.
    T²: the factor of a loss is the square of the student's temperature, since its gradient falls with that one; so do
    sentence-transformers and Hinton et al. 2015 (https://arxiv.org/abs/1503.02531) where both are equal. A loss without the
    factor has none here either.
    """

    name = "sides"
    scope = "position"

    student: float = Field(default=1.0, ge=LEAST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    """That of the student, from 0.001."""
    teacher: float = Field(default=1.0, ge=LEAST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    """That of the teacher, from 0.001."""

    def to_plain(self) -> dict[str, float]:
        return {"student": self.student, "teacher": self.teacher}

    def fixed(self) -> Collection[float]:
        return (self.teacher,)

    def fixed_of_student(self) -> Collection[float]:
        return (self.student,)

    def build(self, context: BuildContext) -> Callable[[Tensor, Tensor, float], Sides]:
        from kdspec.ops.temperature import Sides

        del context
        made = Sides(self.student, self.teacher)
        return lambda _student, _teacher, _progress: made


class Flsw(Temperature):
    """Focal-loss-style weights: rows with a student far from the teacher get a lower temperature.

    `T = base + beta (mean(w) - w)`, `w = (1 - cos(student, teacher))^gamma` of the logits, at least 0.1. The mean is
    over the rows of the micro-batch; no gradient flows through it.
    Paper: Wen et al. 2019, "Preparing Lessons: Improve Knowledge Distillation with Better Supervision"
    (https://arxiv.org/abs/1911.07471), section 3.3. TextBrewer's `flsw`, which has no lower bound.
    """

    name = "flsw"

    base: float = Field(default=4.0, ge=LEAST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    """The temperature around which the rows lie, from 0.001."""
    beta: float = Field(default=1.0, ge=0, le=LARGEST_TEMPERATURE)
    """How far the rows move away from `base`; 0 for not at all."""
    gamma: float = Field(default=2.0, ge=0, le=100)
    """Exponent of the weights: higher ones emphasise hard rows."""

    def build(self, context: BuildContext) -> Callable[[Tensor, Tensor, float], float | Tensor]:
        from kdspec.ops.temperature import flsw

        del context
        base, beta, gamma = self.base, self.beta, self.gamma
        return lambda student, teacher, _progress: flsw(student, teacher, base, beta, gamma)


class Cwsm(Temperature):
    """Confidence weights: rows with an unsure student get a lower temperature.

    `T = base + beta (mean(w) - w)`, `w = 1 / (max softmax(student) + 0.001)`, at least 0.1. The mean is over the rows
    of the micro-batch; no gradient flows through it.
    Paper: Wen et al. 2019, "Preparing Lessons: Improve Knowledge Distillation with Better Supervision"
    (https://arxiv.org/abs/1911.07471), section 3.3. TextBrewer's `cwsm`, which has no lower bound. For logits of classes.
    """

    name = "cwsm"
    classes_only = "`cwsm` takes the confidence of a softmax over classes of which one is right"

    base: float = Field(default=4.0, ge=LEAST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    """The temperature around which the rows lie, from 0.001."""
    beta: float = Field(default=1.0, ge=0, le=LARGEST_TEMPERATURE)
    """How far the rows move away from `base`; 0 for not at all."""

    def build(self, context: BuildContext) -> Callable[[Tensor, Tensor, float], float | Tensor]:
        from kdspec.ops.temperature import cwsm

        del context
        base, beta = self.base, self.beta
        return lambda student, _teacher, _progress: cwsm(student, base, beta)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The temperatures."""
    return [ConstantTemperature, SideTemperatures, Flsw, Cwsm]
