"""The check of `top_k` in the teacher cache: soft labels must be divergences at constant temperatures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.api.plan.needs import LogitUse, TaskNeeds
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """Stages that cache only the largest logits, and have a term that needs all of them."""
    for stage in plan.stages:
        settings = stage.training.teacher_cache
        if settings.use == "off" or settings.top_k is None:
            continue
        kept = Mark(("stages", stage.name, "training", "teacher_cache", "top_k"), "the others are one outcome")
        for task in stage.tasks.values():
            for teacher in task.teachers:
                if (use := _all_of(task.needs, teacher)) is not None:
                    yield Finding(
                        "KD315",
                        f"`top_k` caches too few logits of teacher `{teacher}`: {use.why}",
                        *kept,
                        also=(Mark((*task.at, *use.at), "needs all logits"),),
                        help="leave out `top_k`, or take a divergence such as `kl` with a number as its temperature",
                    )


def _all_of(needs: TaskNeeds, teacher: str) -> LogitUse | None:
    """Why all logits of a teacher are read; None if they are not."""
    if any(
        match.feature == "logits" and (match.teacher or needs.default_teacher or needs.teachers[0]) == teacher
        for match in needs.matches
    ):
        return LogitUse(why="a match compares all logits", at=("matches",))
    if "logits" not in needs.reads.get(teacher, ()):
        return None
    use = needs.logits.get(teacher, LogitUse(why="the strategy does not declare how it reads them"))
    return use if use.why is not None else None
