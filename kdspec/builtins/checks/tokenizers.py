"""The rule of tasks whose logits choose among tokens: one tokenizer for all models of a stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from kdspec.api.plan import Plan

CODE = "KD402"


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Teachers whose tokenizer is known to be another one than the student's, where answers are positions."""
    for stage in plan.stages:
        if not any(plan.spec.tasks[task].positions for task in stage.tasks):
            continue
        own = _tokenizer(plan, stage.student)
        for teacher in stage.teachers:
            theirs = _tokenizer(plan, teacher)
            if own is None or theirs is None or own == theirs:
                continue
            message = f"`{stage.student}` cannot follow `{teacher}` in stage `{stage.name}`: their tokenizers differ"
            task = next(iter(stage.tasks))
            note = f"the task `{task}` answers with positions, which mean something else to another tokenizer"
            label = Mark(("models", teacher), "has another tokenizer", key=True)
            also = (Mark(("models", stage.student), "has its own", key=True),)
            help_ = "make the student `like` its teacher, or train a teacher with the student's `tokenizer`"
            yield Finding(CODE, message, *label, also=also, notes=(note,), help=help_)


def _tokenizer(plan: Plan, model: str) -> str | None:
    return plan.spec.models[model].tokenizer_id(plan.context(model))
