"""The check of in-batch negatives: the student has to read each text alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Tasks whose hard labels compare documents of other rows, with a student that reads pairs."""
    for stage in plan.stages:
        student = plan.spec.models[stage.student]
        for name, part in stage.tasks.items():
            task = plan.spec.tasks[name]
            compares = part.needs.hard_labels and task.head == "ranking" and task.hard_features()
            if not compares or student.form(plan.context(stage.student)) != "pair":
                continue
            message = (
                f"`{stage.student}` reads a query with one document, and cannot compare it with those of other rows"
            )
            yield Finding(
                "KD313",
                message,
                ("tasks", name, task.name, "negatives"),
                "documents of other rows",
                also=(Mark(("models", stage.student, student.name), "reads pairs"),),
                help="write `negatives: none`, or take a student with `reads: each`",
            )
