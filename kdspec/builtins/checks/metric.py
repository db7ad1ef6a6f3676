"""The check that the tasks of a stage have the metric that selects the best student."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.diagnostics.diagnostic import closest
from kdspec.diagnostics.finding import Finding

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan, StagePlan


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Metrics that no task of the stage has."""
    for stage in plan.stages:
        evaluate = stage.training.evaluate
        owner, names = _metrics(plan, stage)
        if evaluate is None or evaluate.metric is None or names is None or evaluate.metric in names:
            continue
        guess = closest(evaluate.metric, names)
        known = ", ".join(f"`{name}`" for name in names)
        yield Finding(
            "KD204",
            f"unknown metric `{evaluate.metric}`",
            ("stages", stage.name, "training", "evaluate", "metric"),
            f"no metric of {owner}",
            notes=() if guess is not None else (f"its metrics are {known}",),
            help=f"did you mean `{guess}`?" if guess is not None else None,
            fix=(evaluate.metric, guess) if guess is not None else None,
        )


def _metrics(plan: Plan, stage: StagePlan) -> tuple[str, list[str] | None]:
    """The owner of the metrics, in words, and the metrics that `evaluate` may select by; None if they depend on the rows."""
    every = {task: plan.spec.tasks[task].metric_names() for task in stage.tasks}
    if not stage.several:
        ((task, names),) = every.items()
        return f"task `{task}`", None if names is None else [*names, *_loss(plan, task)]
    if None in every.values():
        return f"stage `{stage.name}`", None
    listed = [f"{task}.{name}" for task, names in every.items() for name in (*(names or ()), *_loss(plan, task))]
    return f"stage `{stage.name}`", [*listed, "mean"]


def _loss(plan: Plan, task: str) -> tuple[str, ...]:
    """`loss`, unless the rows have no labels and metrics are measured beside a teacher."""
    component = plan.spec.tasks[task]
    return () if component.measured_beside and not component.has_labels() else ("loss",)
