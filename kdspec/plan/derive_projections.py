"""The projections of matches: written, derived from the widths, or refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from kdspec.api.kinds.losses import Projection
from kdspec.api.kinds.model import ModelFacts
from kdspec.api.spec.match import DERIVED_PROJECTION
from kdspec.diagnostics.finding import Finding, Mark
from kdspec.plan.layer_counts import ATTENTION
from kdspec.plan.layer_pairs import Compared
from kdspec.registry.registry import Registry

ProjectionOrigin = Literal["written", "derived", "off", "unneeded", "unknown"]


class ProjectionRule:
    """Decides on the projections of matches."""

    def __init__(self, registry: Registry, facts: Mapping[str, ModelFacts]) -> None:
        self.registry, self.facts = registry, facts

    def of(self, compared: Compared) -> tuple[Projection | None, ProjectionOrigin]:
        """The projection of a match, or None, and its origin; only for a match without `mistakes`."""
        match, feature, loss, teacher, student, _ = compared
        off = match.projection is not None and not match.projection.projects
        if feature in ATTENTION:
            return None, "unneeded"
        if match.projection is not None and not off:
            return match.projection, "written"
        widths = self.width(student, feature), self.width(teacher, feature)
        if not loss.same_width or (None not in widths and widths[0] == widths[1]):
            return None, "off" if off else "unneeded"
        if None in widths:
            return None, "off" if off else "unknown"
        return self.registry.get("projection", DERIVED_PROJECTION)(), "derived"

    def mistakes(self, compared: Compared) -> Iterator[Finding]:
        """Errors in the projection of a match, or in the widths or heads that it compares."""
        match, feature, loss, teacher, student, path = compared
        at = (*path, "projection")
        off = match.projection is not None and not match.projection.projects
        if feature in ATTENTION:
            yield from self._heads(compared)
            if match.projection is not None and not off:
                yield Finding("KD313", "a projection cannot be applied to attention", at, "attention has no width")
            return
        widths = self.width(student, feature), self.width(teacher, feature)
        if off and loss.same_width and None not in widths and widths[0] != widths[1]:
            message = f"`{student}` is {widths[0]} wide, `{teacher}` {widths[1]}, and `projection` is `none`"
            sides = tuple(
                Mark(("models", model), f"{width} wide", key=True)
                for model, width in zip((student, teacher), widths, strict=True)
            )
            help_ = f"remove `projection: none`, and a linear projection {widths[0]} → {widths[1]} is derived"
            yield Finding("KD302", message, at, "turned off here", also=sides, help=help_)

    def _heads(self, compared: Compared) -> Iterator[Finding]:
        loss, teacher, student, path = compared[2:]
        heads = self.facts[student].heads, self.facts[teacher].heads
        if loss.same_heads and None not in heads and heads[0] != heads[1]:
            message = f"`{loss.name}` compares head by head, but `{student}` has {heads[0]} and `{teacher}` {heads[1]}"
            yield Finding("KD309", message, (*path, "loss"), "needs equal heads", help=loss.with_other_heads)

    def width(self, model: str, feature: str) -> int | None:
        """Width of a feature, if the model's facts have it."""
        facts = self.facts[model]
        return {"hidden": facts.width, "embedding": facts.embedding}.get(feature)
