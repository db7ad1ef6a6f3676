"""The check of in-batch negatives: a student has to read each text alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Tasks whose hard labels compare documents of other rows, with students that all read pairs."""
    for name, task in plan.spec.tasks.items():
        learn = [s.student for s in plan.stages if name in s.tasks and s.tasks[name].needs.hard_labels]
        forms = [plan.spec.models[student].form(plan.context(student)) for student in learn]
        if task.head != "ranking" or not task.hard_features("each") or set(forms) != {"pair"}:
            continue
        message = f"`{learn[0]}` reads a query with one document, and cannot compare it with those of other rows"
        yield Finding(
            "KD313",
            message,
            ("tasks", name, task.name, "negatives"),
            "documents of other rows",
            also=(Mark(("models", learn[0], plan.spec.models[learn[0]].name), "reads pairs"),),
            help="write `negatives: none`, or take a student with `reads: each`",
        )
