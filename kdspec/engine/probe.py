"""A first look at real features: two rows through every model, so that no shape is wrong in the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from kdspec.diagnostics import Diagnostic, DiagnosticError, Label
from kdspec.engine.feed import Feed
from kdspec.engine.forward import Forward, frozen
from kdspec.engine.order import isolated_random
from kdspec.match import PlannedMatch
from kdspec.plan import PlannedStage
from kdspec.registry import Registry
from kdspec.spec import Spec
from kdspec.step import Features

ROWS = 2


def settle(
    spec: Spec, registry: Registry, stage: PlannedStage, forwards: Mapping[str, Forward], feed: Feed
) -> tuple[PlannedMatch, ...]:
    """The stage's matches with the widths that the features really have, projections derived where they differ.

    Raises:
        DiagnosticError: KD302, KD309, KD507 or KD313, all of them at once, where shapes do not go together.
    """
    batches = feed.batches(list(range(min(ROWS, feed.rows))))
    features: dict[str, Features] = {}
    with isolated_random():
        for name, forward in forwards.items():
            with frozen(forward.module):
                features[name] = forward(batches[name])
    found: list[Diagnostic] = []
    settled = [_settle(spec, registry, match, features, found) for match in stage.matches]
    found += _logits(spec, stage, features)
    if found:
        raise DiagnosticError(*dict.fromkeys(found))
    return tuple(settled)


def _settle(
    spec: Spec, registry: Registry, match: PlannedMatch, features: Mapping[str, Features], found: list[Diagnostic]
) -> PlannedMatch:
    label = spec.label(match.path)
    student = _tensors(features[match.student], match.feature, match.student_layers)
    teacher = _tensors(features[match.teacher], match.feature, match.teacher_layers)
    wrong = [value for value in (*student, *teacher) if not isinstance(value, Tensor)]
    if wrong or len(student) != match.loss.arity or len(teacher) != match.loss.arity:
        kind = type(wrong[0]).__name__ if wrong else f"{len(student)} and {len(teacher)} tensors"
        message = f"`{match.loss.name}` compares {match.loss.arity} tensor of each model; `{match.feature}` is {kind}"
        found.append(Diagnostic("KD313", message, label, help="name the layers: `layers: {teacher: student}`"))
        return match
    low, high = student[0].shape[-1], teacher[0].shape[-1]
    if match.feature == "attention" or student[0].ndim == 4:
        found += _attention(spec, match, student[0], teacher[0], label)
        return match
    if student[0].shape[:-1] != teacher[0].shape[:-1]:
        found.append(_differ(match, student[0], teacher[0], label))
    projection, origin = match.projection, match.projection_origin
    if origin == "unknown":
        projection, origin = (None, "unneeded") if low == high else (registry.get("projection", "linear")(), "derived")
    if projection is None and match.loss.same_width and low != high:
        message = f"`{match.feature}` of `{match.student}` is {low} wide, of `{match.teacher}` {high}"
        found.append(Diagnostic("KD302", message, label, help="leave `projection` out, and one is derived"))
    return replace(
        match, projection=projection, projection_origin=origin, student_width=int(low), teacher_width=int(high)
    )


def _tensors(features: Features, name: str, layers: Sequence[int]) -> list[Any]:
    return [features[name][i] for i in layers] if layers else list(features.heads(name))


def _attention(spec: Spec, match: PlannedMatch, student: Tensor, teacher: Tensor, label: Label) -> list[Diagnostic]:
    del spec
    if match.loss.same_heads and student.shape[1] != teacher.shape[1]:
        message = f"`{match.student}` has {student.shape[1]} attention heads, `{match.teacher}` {teacher.shape[1]}"
        return [Diagnostic("KD309", message, label)]
    if student.shape[2:] != teacher.shape[2:]:
        return [_differ(match, student, teacher, label)]
    return []


def _differ(match: PlannedMatch, student: Tensor, teacher: Tensor, label: Label) -> Diagnostic:
    sides = f"{tuple(student.shape)} in `{match.student}`, {tuple(teacher.shape)} in `{match.teacher}`"
    message = f"`{match.feature}` has different lengths: {sides} (for {ROWS} rows)"
    help_ = "layers can be matched only where both models see the same tokens"
    return Diagnostic("KD507", message, label, help=help_)


def _logits(spec: Spec, stage: PlannedStage, features: Mapping[str, Features]) -> list[Diagnostic]:
    student = stage.needs.student
    found = []
    own = features[student].heads("logits")
    for name in stage.needs.teachers:
        if "logits" not in stage.needs.reads.get(name, frozenset()):
            continue
        other = features[name].heads("logits")
        shapes = [(a.shape[-1], b.shape[-1]) for a, b in zip(own, other, strict=False)]
        for mine, theirs in shapes:
            if mine != theirs:
                message = f"`{student}` has {mine} classes, `{name}` has {theirs}"
                label = spec.label(("stages", stage.name, "distiller"), "compares their logits")
                where = tuple(
                    spec.label(("models", m), f"{n} classes", key=True) for m, n in ((student, mine), (name, theirs))
                )
                found.append(Diagnostic("KD507", message, label, where))
    return found
