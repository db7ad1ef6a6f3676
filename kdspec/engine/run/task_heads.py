"""The rule that a model with one head has one set of labels in all stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kdspec.api.plan.plan import Plan
from kdspec.api.working.task import Head
from kdspec.diagnostics.finding import Finding, Mark


def conflicts(plan: Plan, heads: Mapping[str, Head]) -> Iterator[Finding]:
    """Models that are used for a task with other labels than their head's, if both `heads` are known."""
    for stage in plan.stages:
        for part in stage.tasks.values():
            for model in part.models:
                own = plan.tasks_of[model]
                if part.task in own or plan.spec.tasks[part.task].head is None:
                    continue
                first, second = heads.get(part.task), heads.get(own[-1])
                if first is None or second is None or first.labels == second.labels:
                    continue
                path = part.at
                role = "is to learn" if model == part.student else "is to teach"
                yield Finding(
                    "KD403",
                    f"`{model}` has the head of task `{own[-1]}`, and the labels of task `{part.task}` differ",
                    *Mark(path, f"here it {role} `{part.task}`", key=bool(part.needs.at)),
                    also=tuple(Mark(("tasks", task), _listed(heads[task]), key=True) for task in (part.task, own[-1])),
                    help="a model has one head, except the student of `multi_task`; use one model for each task",
                )


def _listed(head: Head) -> str:
    shown = ", ".join(head.labels[:4])
    return f"{len(head.labels)} labels: {shown}" + (", …" if len(head.labels) > 4 else "")
