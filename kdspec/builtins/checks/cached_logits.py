"""Whether a teacher cache may keep the largest logits alone: where their probabilities at known temperatures are all that is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdspec.api.hooks import hookimpl
from kdspec.api.step import LogitUse, Needs
from kdspec.diagnostics.finding import Finding, Mark

if TYPE_CHECKING:
    from kdspec.api.spec_source import SpecSource
    from kdspec.spec.spec import Spec


@hookimpl
def kdspec_check(spec: Spec, source: SpecSource) -> Iterator[Finding]:
    """Stages that keep the largest logits, and have a term that reads all of them."""
    del source
    for name, stage in spec.stages.items():
        settings = stage.training.teacher_cache
        if settings.use == "off" or settings.top_k is None:
            continue
        path = ("stages", name, "distiller", stage.distiller.name)
        for part in stage.distiller.needs().each:
            for teacher in part.teachers:
                if (use := _all_of(part, teacher)) is not None:
                    kept = Mark(("stages", name, "training", "teacher_cache", "top_k"), "the rest as one number")
                    yield Finding(
                        "KD315",
                        f"`top_k` keeps too little of the logits of teacher `{teacher}`: {use.why}",
                        *kept,
                        also=(Mark((*path, *part.at, *use.at), "reads all of them"),),
                        help="leave out `top_k`, or take a divergence such as `kl` with a number as its temperature",
                    )


def _all_of(part: Needs, teacher: str) -> LogitUse | None:
    """Why all logits of a teacher are read; None where they are not."""
    if any(
        match.feature == "logits" and (match.teacher or part.default_teacher or part.teachers[0]) == teacher
        for match in part.matches
    ):
        return LogitUse(why="a match compares all logits", at=("matches",))
    if "logits" not in part.reads.get(teacher, ()):
        return None
    use = part.logits.get(teacher, LogitUse(why="the strategy does not say that a part of them is enough"))
    return use if use.why is not None else None
