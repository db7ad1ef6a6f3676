"""The check of settings of soft labels that are made for scores of candidates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdspec.api.component import Strict
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.losses import LOGIT_KINDS
from kdspec.diagnostics.finding import Finding, Mark
from kdspec.objectives.label_terms import HardLabels, SoftLabels

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan, TaskPlan


@hookimpl
def kdspec_check(plan: Plan) -> Iterator[Finding]:
    """`compat` and `min_max` for other logits than scores, and FlagEmbedding's convention without hard labels."""
    for stage in plan.stages:
        for part in stage.tasks.values():
            terms = dict(_below(part.distiller, part.needs.at))
            for key, soft in terms.items():
                if isinstance(soft, SoftLabels) and not soft.weight.always_zero():
                    yield from _unfit(plan, part, key, soft)
                    yield from _without_labels(part, key, soft, terms)


def _below(group: Strict, at: Sequence[str | int]) -> Iterator[tuple[str, Any]]:
    """The parameters of a strategy at a path, by name; none where it has no such groups."""
    value: Any = group
    for key in at:
        inside = dict(_named(value)) if isinstance(value, Strict) else value
        value = inside.get(key) if isinstance(inside, Mapping) else None
    yield from _named(value) if isinstance(value, Strict) else ()


def _named(group: Strict) -> Iterator[tuple[str, Any]]:
    for name, field in type(group).model_fields.items():
        yield field.alias or name, getattr(group, name)


def _unfit(plan: Plan, part: TaskPlan, key: str, soft: SoftLabels) -> Iterator[Finding]:
    logits = plan.spec.tasks[part.task].logits
    setting = "compat" if soft.compat is not None else "min_max" if soft.min_max else None
    if setting is None or logits is None or logits == "scores":
        return
    message = f"`{setting}` is for scores of candidates; task `{part.task}` has {LOGIT_KINDS[logits]}"
    also = (Mark(("tasks", part.task), f"has {LOGIT_KINDS[logits]}", key=True),)
    yield Finding("KD313", message, (*part.at, key, setting), "does not fit the task", also=also, help="leave it out")


def _without_labels(part: TaskPlan, key: str, soft: SoftLabels, terms: Mapping[str, Any]) -> Iterator[Finding]:
    hard = next(((name, value) for name, value in terms.items() if isinstance(value, HardLabels)), None)
    if soft.compat != "flag_embedding" or hard is None or not hard[1].weight.always_zero():
        return
    message = "FlagEmbedding always adds the loss of the hard labels, and `hard_labels` has the weight 0"
    help_ = f"write `{hard[0]}: {{weight: 1}}`"
    yield Finding("KD305", message, (*part.at, key, "compat"), "half of it", help=help_, severity="warning")
