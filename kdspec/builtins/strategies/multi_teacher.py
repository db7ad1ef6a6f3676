"""The strategy `multi_teacher`: one student learns from several teachers of one task."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from kdspec.api.component import Component, by_name, invalid_value
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.distiller import Distiller, ObjectiveContext
from kdspec.api.plan.mixture import Mixture
from kdspec.api.plan.needs import ClassesOnly, LogitUse, Needs
from kdspec.api.spec.bounds import LARGEST_FACTOR
from kdspec.api.spec.match import Match
from kdspec.objectives import label_terms
from kdspec.objectives.label_terms import HardLabels, SoftLabels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kdspec.api.working.objective import Objective
    from kdspec.objectives.soft_labels import Soft

TeacherWeights = Annotated[
    Annotated[list[Annotated[float, Field(gt=0, le=LARGEST_FACTOR)]], Tag("numbers")]
    | Annotated[Literal["confidence"], Tag("rule")],
    Discriminator(lambda value: "numbers" if isinstance(value, list) else "rule"),
]
"""Numbers, normalised to the sum 1, or the name of a rule."""


class JoinedSoftLabels(SoftLabels):
    """Soft labels: the student learns the logits of several teachers."""

    combine: Literal["logits", "probabilities", "losses"] = "logits"
    """What is averaged over the teachers. `logits`: the logits before the temperature, as in TextBrewer.
    `probabilities`: those at the temperature (a rule that depends on the teacher gets the mean logits), so that a teacher
    with large logits has no more influence than the others. `losses`: the student's loss with each of them; each is
    logged."""
    teacher_weights: TeacherWeights | None = None
    """Weight of each teacher: a number greater than 0 for each, in the order of `teachers`, or `confidence`. Default:
    equal weights. `confidence` gives weights for each row: the lower a teacher's probability of the label, the lower its
    weight, (1 - softmax over the teachers of their cross-entropies) / (their number - 1) as in Zhang et al. 2022 (arXiv
    2201.00007). In a row without a label the teacher's entropy is used in place of the cross-entropy."""

    @model_validator(mode="after")
    def _rows_of_a_loss(self) -> Self:
        if self.combine == "losses" and self.teacher_weights == "confidence":
            message = (
                "`combine: losses` and `teacher_weights: confidence` exclude each other, since a loss is already a mean "
                "over the rows; `combine: probabilities` has the gradient of `ce` and `kl` with weights for each row"
            )
            raise invalid_value(message, type_="exclusive_keys", keys=["combine", "teacher_weights"])
        return self

    def logit_use(self, teachers: Sequence[str]) -> LogitUse:
        """With `combine: losses` the use of one teacher; else several are averaged."""
        use = super().logit_use(teachers[:1] if self.combine == "losses" else teachers)
        return replace(use, at=("combine",)) if len(teachers) > 1 and use.why and not use.at else use

    def classes_only(self, teachers: Sequence[str]) -> Iterator[ClassesOnly]:
        """Those of one teacher, and for several teachers the averages of probabilities."""
        yield from super().classes_only(teachers)
        joined = (("combine", self.combine, "probabilities"), ("teacher_weights", self.teacher_weights, "confidence"))
        for key, value, about in joined:
            if value == about and len(teachers) > 1:
                why = f"`{key}: {value}` needs classes of which one is right"
                help_ = "use `combine: logits`, with a number as the weight of each teacher or none"
                yield ClassesOnly(at=(key,), why=why, help=help_)

    def mixture(self) -> Mixture:
        """The teachers as one. The mean of their probabilities is what the losses with each of them lead to."""
        weights = self.teacher_weights
        total = sum(weights) if isinstance(weights, list) else 1.0
        shares = tuple(weight / total for weight in weights) if isinstance(weights, list) else weights
        return Mixture(of="logits" if self.combine == "logits" else "probabilities", shares=shares)

    def build(self, context: BuildContext, teachers: Sequence[str]) -> Soft:
        """The working object for these teachers."""
        return replace(super().build(context, teachers), combine=self.combine, shares=self.mixture().shares)


class MultiTeacher(Distiller):
    """One student learns from several teachers of one task.

    total = w_soft · Σ_heads soft + Σ_matches w · L + w_hard · mean_heads hard, as in `general`; for the soft labels the teachers
    are averaged: their logits, their probabilities or the student's losses with them. Teachers may differ in
    architecture, and in tokenizer if a row has one label; they need the same classes in the same order. A match names
    its teacher. You et al. 2017, "Learning from Multiple Teacher Networks"; TextBrewer's `MultiTeacherDistiller`.
    """

    name = "multi_teacher"
    scope = "row"
    teachers: list[str] = Field(min_length=1)
    """The teachers; frozen, in evaluation mode."""
    student: str
    """The model that is trained."""
    task: str | None = None
    """The task; may be left out if there is only one."""
    soft_labels: JoinedSoftLabels = by_name({})
    """Learning the teachers' logits."""
    hard_labels: HardLabels = by_name({})
    """Learning the labels."""
    matches: list[Match] = []
    """Learning the teachers' layers; a match without `teacher` uses the first one."""

    @field_validator("teachers")
    @classmethod
    def _different(cls, teachers: list[str]) -> list[str]:
        for index, name in enumerate(teachers):
            if name in teachers[:index]:
                raise invalid_value(
                    f"teacher `{name}` is named twice; use `teacher_weights` for a larger weight", index
                )
        return teachers

    @model_validator(mode="after")
    def _one_weight_each(self) -> Self:
        weights = self.soft_labels.teacher_weights
        if isinstance(weights, list) and len(weights) != len(self.teachers):
            numbers, teachers = (
                f"{len(x)} {word}{'s' * (len(x) != 1)}" for x, word in ((weights, "number"), (self.teachers, "teacher"))
            )
            raise invalid_value(f"{numbers} in `teacher_weights` for {teachers}", "soft_labels", "teacher_weights")
        return self

    def needs(self) -> Needs:
        soft, hard, matches = self.soft_labels, self.hard_labels, self.matches
        found = label_terms.needs(self.student, self.teachers, self.task, soft=soft, hard=hard, matches=matches)
        if soft.teacher_weights == "confidence" and not soft.weight.always_zero():
            optional = {**found.optional, self.student: found.optional[self.student] | {"labels"}}
            found = replace(found, optional=optional)
        return Needs(student=self.student, tasks=(replace(found, mixture=soft.mixture()),))

    def build(self, context: ObjectiveContext) -> Objective:
        return label_terms.objective(context, self.teachers, soft=self.soft_labels, hard=self.hard_labels)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The strategy."""
    return [MultiTeacher]
