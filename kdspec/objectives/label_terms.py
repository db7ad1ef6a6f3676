"""The parameters `soft_labels` and `hard_labels` that strategies share: their settings, needs and objective."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kdspec.api.component import Strict, by_name
from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.distiller import ObjectiveContext
from kdspec.api.kinds.kinds import Schedule
from kdspec.api.kinds.losses import Divergence, LogitLoss, Temperature
from kdspec.api.plan.needs import ClassesOnly, LogitUse, TaskNeeds
from kdspec.api.spec.match import Match
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from kdspec.objectives.distillation import DistillationObjective
    from kdspec.objectives.soft_labels import Soft


class SoftLabels(Strict):
    """Soft labels: the student learns the teacher's logits."""

    loss: LogitLoss = by_name("ce")
    """The loss between the logits; several logits heads are summed. Default: `ce`; `bce` if a row may have several labels,
    `mse` if the logits are numbers."""
    temperature: Temperature = by_name(4.0)
    """Both logits are divided by it: a number, a number for each side (`{student: 0.05, teacher: 1}`), or a rule that gives one
    for each row. Default: 4, and 1 if the logits are numbers or scores."""
    weight: Schedule = by_name(1.0)
    """Factor in the total: a number or a schedule. Default: 1; 0 if the task has no logits and nothing of `soft_labels` is
    written."""
    probability_shift: bool = False
    """Swap the teacher's largest logit with the label's, so that the teacher's prediction is always the label."""

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
        if self.probability_shift:
            return LogitUse(
                why="`probability_shift` moves the logit of the label, which may not be among the largest",
                at=("probability_shift",),
            )
        if len(teachers) > 1:
            return LogitUse(why="those of several teachers are averaged")
        return LogitUse(temperatures=tuple(temperatures), at=("temperature",))

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
            temperature=self.temperature.build(context),
            weight=self.weight.build(context),
            shift=self.probability_shift,
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
    logits, use = frozenset({"logits"} if softly else ()), soft.logit_use(teachers)
    return TaskNeeds(
        task=task,
        teachers=tuple(teachers),
        reads={student: logits | ({"labels"} if with_labels else set()), **dict.fromkeys(teachers, logits)},
        optional={student: masks | {"inputs_mask"}, **dict.fromkeys(teachers, taught)},
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
