"""The parameters `soft_labels` and `hard_labels` that strategies share: their settings, needs and objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from kdspec.api.component import Strict, by_name, invalid_value
from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.distiller import ObjectiveContext
from kdspec.api.kinds.kinds import Schedule
from kdspec.api.kinds.losses import Divergence, LogitLoss, Temperature
from kdspec.api.plan.needs import ClassesOnly, LogitUse, TaskNeeds
from kdspec.api.spec.match import Match
from kdspec.diagnostics.fault import Fault
from kdspec.objectives.compat import PRESETS, Compat, contradicted

if TYPE_CHECKING:
    from kdspec.objectives.distillation import DistillationObjective
    from kdspec.objectives.soft_labels import Soft


class SoftLabels(Strict):
    """Soft labels: the student learns the teacher's logits."""

    compat: Compat | None = None
    """The convention of another package for scores, as the settings `loss`, `temperature` and `min_max`, which the plan shows.
    `sentence_transformers.margin_mse`: `MarginMSELoss`. `sentence_transformers.distill_kl`: `DistillKLDivLoss`. `pylate`:
    `Distillation`, which scales the student's scores of a row to 0 and 1. `colbert`: ColBERTv2, whose `distillation_alpha` is
    1 / the teacher's temperature. `flag_embedding`: `kl_div` of its embedders, the cross-entropy with the student's scores
    divided by 0.02; it always adds the hard labels, `hard_labels: {weight: 1}`."""
    loss: LogitLoss = by_name("ce")
    """The loss between the logits; several logits heads are summed. Default: `ce`; `bce` if a row may have several labels,
    `mse` if the logits are numbers."""
    temperature: Temperature = by_name(4.0)
    """Both logits are divided by it: a number, a number for each side (`{student: 0.05, teacher: 1}`), or a rule that gives one
    for each row. Default: 4, and 1 if the logits are numbers or scores."""
    weight: Schedule = by_name(1.0)
    """Factor in the total: a number or a schedule. Default: 1; 0 if the task has no logits and nothing of `soft_labels` is
    written."""
    min_max: bool = False
    """Scale the student's scores of each row to 0 for its worst candidate and 1 for its best, before the temperature. For
    scores of candidates."""
    probability_shift: bool = False
    """Swap the teacher's largest logit with the label's, so that the teacher's prediction is always the label."""

    @model_validator(mode="before")
    @classmethod
    def _as_compat(cls, value: Any) -> Any:
        name = value.get("compat") if isinstance(value, Mapping) else None
        if not isinstance(name, str) or name not in PRESETS:
            return value
        if (key := contradicted(name, value)) is not None:
            message = f"`compat: {name}` sets `{key}` to another value: leave one of them out"
            raise invalid_value(message, key, type_="exclusive_keys", keys=["compat", key])
        return {**PRESETS[name], **value}

    def classes_only(self, teachers: Sequence[str]) -> Iterator[ClassesOnly]:
        """The settings in use that need logits of classes."""
        del teachers
        if self.probability_shift:
            why = "`probability_shift` corrects the one right class"
            yield ClassesOnly(at=("probability_shift",), why=why, help="leave it out")
        if (why_not := self.temperature.classes_only) is not None:
            yield ClassesOnly(at=("temperature",), why=why_not, help="write a number: `temperature: 4`")

    def logit_use(self, teachers: Sequence[str]) -> LogitUse:
        """How these terms read the logits of each of the teachers."""
        temperatures = self.temperature.fixed()
        if not isinstance(self.loss, Divergence):
            return LogitUse(why=f"the loss `{self.loss.name}` compares all logits", at=("loss",))
        if temperatures is None:
            return LogitUse(why=f"the temperature `{self.temperature.name}` depends on all logits", at=("temperature",))
        if self.min_max:
            return LogitUse(why="`min_max` scales by the worst and the best score", at=("min_max",))
        if self.probability_shift:
            return LogitUse(
                why="`probability_shift` moves the logit of the label, which may not be among the largest",
                at=("probability_shift",),
            )
        if len(teachers) > 1:
            return LogitUse(why="those of several teachers are averaged")
        of_student = tuple(self.temperature.fixed_of_student() or ())
        return LogitUse(
            temperatures=tuple(temperatures),
            student_temperature=of_student[0] if len(of_student) == 1 else None,
            at=("temperature",),
        )

    def build(self, context: BuildContext, teachers: Sequence[str]) -> Soft:
        """The working object for these teachers."""
        from kdspec.objectives.soft_labels import Soft

        for name, part in (("loss", self.loss), ("temperature", self.temperature)):
            if part.scope == "step":
                message = (
                    f"the {part.words()} `{part.name}` takes the rows of a whole step, which only losses of matches may"
                )
                raise Fault("KD313", message, ("soft_labels", name))
        return Soft(
            teachers=tuple(teachers),
            loss=self.loss.build(context),
            needs_labels=self.loss.needs_labels,
            takes_labels=self.loss.takes_labels,
            temperature=self.temperature.build(context),
            weight=self.weight.build(context),
            shift=self.probability_shift,
            min_max=self.min_max,
            by_position=self.loss.scope == "position" and self.temperature.scope == "position",
        )


class HardLabels(Strict):
    """Hard labels: the student learns the labels of the data."""

    weight: Schedule = by_name(0.0)
    """Factor in the total: a number or a schedule."""


def needs(
    student: str,
    teachers: Sequence[str],
    task: str | None,
    *,
    soft: SoftLabels,
    hard: HardLabels,
    matches: Sequence[Match],
) -> TaskNeeds:
    """The needs of these terms for one task."""
    softly = bool(teachers) and not soft.weight.always_zero()
    with_labels = softly and (soft.loss.needs_labels or soft.probability_shift)
    masks = frozenset({"logits_mask"})
    taught = masks | {"answered"} if softly else masks
    own = masks | {"inputs_mask"} | ({"labels"} if softly and soft.loss.takes_labels else set())
    logits, use = frozenset({"logits"} if softly else ()), soft.logit_use(teachers)
    return TaskNeeds(
        task=task,
        teachers=tuple(teachers),
        reads={student: logits | ({"labels"} if with_labels else set()), **dict.fromkeys(teachers, logits)},
        optional={student: own, **dict.fromkeys(teachers, taught)},
        logits={name: replace(use, at=("soft_labels", *use.at)) for name in teachers} if softly else {},
        classes_only=tuple(
            replace(each, at=("soft_labels", *each.at)) for each in soft.classes_only(teachers) if softly
        ),
        hard_labels=not hard.weight.always_zero(),
        unlabelled=softly or bool(matches),
        matches=tuple(match for match in matches if not match.weight.always_zero()),
    )


def objective(
    context: ObjectiveContext, teachers: Sequence[str], *, soft: SoftLabels, hard: HardLabels
) -> DistillationObjective:
    """The objective of these terms and of the context's matches."""
    from kdspec.objectives.distillation import DistillationObjective

    return DistillationObjective(
        tasks=context.tasks,
        hard=None if hard.weight.always_zero() else hard.weight.build(context),
        soft=soft.build(context, teachers) if teachers and not soft.weight.always_zero() else None,
        context=context,
    )
