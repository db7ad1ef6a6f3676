"""The check for tasks with logits over tokens: all models of a stage need one tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan

CODE = "KD402"


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Teachers with another tokenizer than the student, in stages of tasks with logits over tokens."""
    for stage in plan.stages:
        if not any(plan.spec.tasks[task].positions for task in stage.tasks):
            continue
        own = _tokenizer(plan, stage.student)
        for teacher in stage.teachers:
            theirs = _tokenizer(plan, teacher)
            if own is None or theirs is None or own == theirs:
                continue
            message = (
                f"`{stage.student}` cannot learn from `{teacher}` in stage `{stage.name}`: their tokenizers differ"
            )
            task = next(iter(stage.tasks))
            note = f"the logits of task `{task}` are over token positions, which differ between tokenizers"
            label = Mark(("models", teacher), "has another tokenizer", key=True)
            also = (Mark(("models", stage.student), "has its own", key=True),)
            help_ = "make the student `like` its teacher, or train a teacher with the student's `tokenizer`"
            yield Finding(CODE, message, *label, also=also, notes=(note,), help=help_)


def _tokenizer(plan: Plan, model: str) -> str | None:
    return plan.spec.models[model].tokenizer_id(plan.context(model))
