"""The check of recorded scores: what a student can learn from them at the temperature of the spec."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext
from kdspec.data.label_names import SUSPECT
from kdspec.data.ranking.score_audit import ROWS, audit, audit_findings
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan, TaskPlan


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Scores that are NaN, equal, squashed, or one-hot or flat at the temperature, in the first rows of `train`."""
    for stage in plan.stages:
        for part in stage.tasks.values():
            for teacher in part.teachers:
                if not plan.spec.models[teacher].has_weights and "logits" in part.needs.reads.get(teacher, ()):
                    yield from _of(plan, part, teacher)


def _of(plan: Plan, part: TaskPlan, teacher: str) -> Iterator[Finding]:
    task = plan.spec.tasks[part.task]
    try:
        scores = task.first_answers(BuildContext(folder=plan.source.folder, seed=plan.spec.seed), ROWS)
    except Fault:  # the task's check, or the run, says what is wrong with the file
        return
    if scores is None:
        return
    use = part.needs.logits.get(teacher)
    facts = audit(scores, use.temperatures[0] if use is not None and len(use.temperatures) == 1 else None)
    own = use.student_temperature if use is not None else None
    for each in audit_findings(facts, teacher, own):
        label = Mark(("models", teacher), "teaches", key=True)
        if each.by_temperature and use is not None:
            label = Mark((*part.at, *use.at), "the temperature")
        if each.severity == "error":
            yield _without_a_number(plan, part, scores, each.message)
            continue
        yield Finding(SUSPECT, each.message, *label, help=each.help, severity=each.severity)


def _without_a_number(plan: Plan, part: TaskPlan, scores: Sequence[Sequence[float]], message: str) -> Finding:
    """The error of a row with a score that is missing, NaN or infinite."""
    row = next(number for number, each in enumerate(scores, 1) if not all(map(math.isfinite, each)))
    task = ("tasks", part.task, plan.spec.tasks[part.task].name)
    place = next((at for at in ((*task, "scores"), (*task, "margins")) if plan.source.has(at)), task)
    help_ = "each candidate needs a number, or the row no scores at all; rows are counted from 1"
    return Finding("KD502", f"{message}; the first is row {row} of `train`", place, help=help_)
