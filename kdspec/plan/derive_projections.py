"""Whether a match needs a projection from the student's width to the teacher's, and whether it can have one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from kdspec.api.context import ModelFacts
from kdspec.api.losses import Projection
from kdspec.diagnostics.finding import Finding, Mark
from kdspec.plan.layer_pairs import Compared
from kdspec.registry.registry import Registry

ProjectionOrigin = Literal["written", "derived", "off", "unneeded", "unknown"]


class ProjectionRule:
    """Decides on the projections of matches; what is wrong is added to `found`."""

    def __init__(self, registry: Registry, facts: Mapping[str, ModelFacts], found: list[Finding]) -> None:
        self.registry, self.facts, self.found = registry, facts, found

    def of(self, compared: Compared) -> tuple[Projection | None, ProjectionOrigin]:
        """The projection of a match, or None, and who has decided so."""
        match, feature, loss, teacher, student, path = compared
        off = match.projection is not None and match.projection.name == "none"
        if feature == "attention":
            self._heads(compared)
            if match.projection is not None and not off:
                label = Mark((*path, "projection"), "attention has no width")
                self.found.append(Finding("KD313", "a projection cannot be applied to attention", *label))
            return None, "unneeded"
        if match.projection is not None and not off:
            return match.projection, "written"
        if not loss.same_width:
            return None, "off" if off else "unneeded"
        widths = self.width(student, feature), self.width(teacher, feature)
        if None in widths:
            return (None, "off") if off else (None, "unknown")
        if widths[0] == widths[1]:
            return None, "off" if off else "unneeded"
        if off:
            message = f"`{student}` is {widths[0]} wide, `{teacher}` {widths[1]}, and `projection` is `none`"
            label = Mark((*path, "projection"), "turned off here")
            sides = (self._side(student, widths[0]), self._side(teacher, widths[1]))
            help_ = f"remove `projection: none`, and a linear projection {widths[0]} → {widths[1]} is derived"
            self.found.append(Finding("KD302", message, *label, also=sides, help=help_))
            return None, "off"
        return self.registry.get("projection", "linear")(), "derived"

    def _side(self, model: str, width: int | None) -> Mark:
        return Mark(("models", model), f"{width} wide", key=True)

    def _heads(self, compared: Compared) -> None:
        loss, teacher, student, path = compared[2:]
        heads = self.facts[student].heads, self.facts[teacher].heads
        if loss.same_heads and None not in heads and heads[0] != heads[1]:
            message = f"`{loss.name}` compares head by head, but `{student}` has {heads[0]} and `{teacher}` {heads[1]}"
            label = Mark((*path, "loss"), "needs equal heads")
            help_ = f"use `{loss.name}_mean`" if loss.name == "attention_ce" else None
            if loss.name == "attention_mse":
                help_ = "use `attention_mse_sum`, or give the student as many heads"
            self.found.append(Finding("KD309", message, *label, help=help_))

    def width(self, model: str, feature: str) -> int | None:
        """Width of a feature, where the models' facts tell."""
        return self.facts[model].width if feature == "hidden" else None
