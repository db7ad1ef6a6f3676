"""Warnings for unused or doubled parts of a plan: equal matches, and features that no term reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kdspec.api.plan.plan import StagePlan
from kdspec.api.spec.match import PlannedMatch
from kdspec.api.spec.spec import Spec
from kdspec.api.spec.spec_source import SpecSource
from kdspec.diagnostics.diagnostic import closest
from kdspec.diagnostics.finding import Finding, Mark

_ROLES = ("logits", "logits_mask", "labels", "losses", "inputs_mask", "hidden", "attention", "attention_scores")


def twice(source: SpecSource, matches: Sequence[PlannedMatch]) -> Iterator[Finding]:
    """Pairs of layers that two matches compare by the same loss. Matches with equal text are reported elsewhere."""
    first: list[tuple[Any, PlannedMatch]] = []  # compared and not hashed: parameters may be lists
    reported = set()
    for match in matches:
        layers = (match.teacher, match.teacher_layers, match.student_layers)
        what = (match.feature, match.loss, match.projection, *layers)
        other = next((seen for key, seen in first if key == what and seen.path != match.path), None)
        if all(key != what for key, _ in first):
            first.append((what, match))
        if other is None or (other.path, match.path) in reported or source.at(other.path) == source.at(match.path):
            continue
        reported.add((other.path, match.path))
        message = (
            f"`{match.loss.name}` of `{match.feature}` is computed twice at {_pair(match)}, so its weight is doubled"
        )
        also = (Mark(other.path, "first here"),)
        yield Finding("KD305", message, match.path, "again", also=also, severity="warning")


def unread(spec: Spec, stages: Sequence[StagePlan]) -> Iterator[Finding]:
    """Features of written adaptors that no stage reads, except the usual ones."""
    for model, adaptor in spec.adaptors.items():
        taking_part = [stage for stage in stages if model in stage.models]
        read = {n for stage in taking_part for task in stage.tasks.values() for n in task.features.get(model, {})}
        written = adaptor.feature_names()
        for name in written if taking_part else ():
            if name in read or name in _ROLES:
                continue
            guess = closest(name, [role for role in _ROLES if role not in written])
            path = ("adaptors", model, name)
            yield Finding(
                "KD305",
                f"nothing reads the feature `{name}` of `{model}`",
                *Mark(path, "not read", key=True),
                help=f"did you mean `{guess}`?" if guess else "remove it, or name it in a match",
                fix=(name, guess) if guess else None,
                severity="warning",
            )


def _pair(match: PlannedMatch) -> str:
    return (
        f"{list(match.teacher_layers)} → {list(match.student_layers)}" if match.teacher_layers else "the whole feature"
    )
