"""The checks for what compares token positions: the models must get the same token ids for every text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan, TaskPlan
    from kdspec.api.spec.match import PlannedMatch

CODE = "KD402"


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Teachers with another tokenizer than the student, where logits or layers are compared token by token."""
    for stage in plan.stages:
        for part in stage.tasks.values():
            if plan.spec.tasks[part.task].positions:
                yield from _logits(plan, part)
            yield from _layers(plan, part)


def _logits(plan: Plan, part: TaskPlan) -> Iterator[Finding]:
    for teacher in part.teachers:
        own, theirs = (plan.spec.models[name].tokenizer_id(plan.context(name)) for name in (part.student, teacher))
        if own is None or theirs is None or own == theirs or plan.same_tokens(part.student, teacher):
            continue
        message = f"`{part.student}` cannot learn from `{teacher}` in stage `{part.stage}`: their tokenizers differ"
        note = f"the logits of task `{part.task}` are over token positions, which differ between tokenizers"
        label = Mark(("models", teacher), "has another tokenizer", key=True)
        also = (Mark(("models", part.student), "has its own", key=True),)
        help_ = "make the student `like` its teacher, or train a teacher with the student's `tokenizer`"
        yield Finding(CODE, message, *label, also=also, notes=(note,), help=help_)


def _layers(plan: Plan, part: TaskPlan) -> Iterator[Finding]:
    """One finding for each match, which may have many layers."""
    found: dict[tuple[object, ...], PlannedMatch] = {}
    for match in part.matches:
        if part.compares_positions(match) and plan.same_tokens(match.student, match.teacher) is False:
            found.setdefault((match.path, match.teacher), match)
    for match in found.values():
        yield match.other_tokens("their tokenizers differ")
