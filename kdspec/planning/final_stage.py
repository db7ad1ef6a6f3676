"""Which stage of a plan trains the student of the run."""

from __future__ import annotations

from kdspec.api.plan.plan import Plan, StagePlan


def final_stage(plan: Plan) -> StagePlan:
    """The last stage with a teacher, or the last one: a baseline that is trained after it is not the run's student."""
    distilled = [stage for stage in plan.stages if stage.teachers]
    return (distilled or list(plan.stages))[-1]
