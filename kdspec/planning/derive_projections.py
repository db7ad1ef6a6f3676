"""The projections of matches: written, derived from the widths, or refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from kdspec.api.kinds.losses import Projection
from kdspec.api.kinds.model import KeptProjection, ModelFacts
from kdspec.api.spec.match import DERIVED_PROJECTION
from kdspec.diagnostics.finding import Finding, Mark
from kdspec.planning.layer_counts import ATTENTION
from kdspec.planning.layer_pairs import Compared
from kdspec.registry.registry import Registry

ProjectionOrigin = Literal["written", "derived", "off", "unneeded", "unknown"]
EMBEDDING = "embedding"
_WIDTHS = "KD302"


@dataclass
class Kept:
    """The projections that are layers of students, by model, and the facts of models with them."""

    allowed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """How a projection can become a layer of a model: `keep`, `fold`."""
    projections: dict[str, KeptProjection] = field(default_factory=dict)
    facts: Mapping[str, ModelFacts] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @classmethod
    def of(
        cls, compared: Iterable[Compared], facts: Mapping[str, ModelFacts], allowed: Mapping[str, frozenset[str]]
    ) -> Kept:
        """What the matches of a plan keep.

        Args:
            compared: the matches of all stages.
            facts: of each model, as it is without them.
            allowed: how a projection can become a layer of a model.
        """
        found = cls(allowed, facts=facts)
        vectors = [each for each in compared if found.concerns(each)]
        for _ in range(len(vectors) + 1):  # a student may be the teacher of a later stage
            before, found = found.projections, _kept(vectors, facts, found)
            if found.projections == before:
                break
        return found

    def concerns(self, compared: Compared) -> bool:
        """Whether the projection of a match, if it needs one, is a layer of the student."""
        projection = compared.match.projection
        if compared.feature != EMBEDDING or (projection is None and not compared.loss.same_width):
            return False
        how = "keep" if projection is None else projection.keeps
        return how in self.allowed.get(compared.student, ())


def _kept(vectors: Iterable[Compared], own: Mapping[str, ModelFacts], before: Kept) -> Kept:
    """What these matches need, if the teachers are as wide as in `before`; students are as in `own`."""
    made, facts = Kept(before.allowed), dict(own)
    by_student: dict[str, list[tuple[Compared, int]]] = {}
    for each in vectors:
        width = before.facts[each.teacher].embedding
        if width is not None:
            by_student.setdefault(each.student, []).append((each, width))
    for name, wanted in by_student.items():
        takes = own[name].embedding
        first, width = next((pair for pair in wanted if pair[1] != takes), wanted[0])
        if takes is None or width == takes:
            continue
        made.findings += [_two_widths(first, other, (width, theirs)) for other, theirs in wanted if theirs != width]
        written = {how: each for each, _ in wanted if (how := _written(each)) is not None}
        if len(written) > 1:
            made.findings.append(_kept_and_folded(written["keep"], written["fold"]))
        made.projections[name] = KeptProjection(takes, width, folded="fold" in written)
        facts[name] = replace(own[name], embedding=width)
    made.facts = facts
    return made


def _written(compared: Compared) -> Literal["keep", "fold"] | None:
    """What the spec writes of a projection that is kept; None if it is derived."""
    projection = compared.match.projection
    return None if projection is None else projection.keeps


def _two_widths(one: Compared, other: Compared, widths: tuple[int, int]) -> Finding:
    message = f"`{other.student}` cannot keep two widths: {widths[0]} of `{one.teacher}`, and {widths[1]} of `{other.teacher}`"
    also = (Mark((*one.path, "feature"), f"{widths[0]} wide"),)
    help_ = "write `projection: drop` in one of the two matches"
    return Finding(_WIDTHS, message, (*other.path, "feature"), f"{widths[1]} wide", also=also, help=help_)


def _kept_and_folded(one: Compared, other: Compared) -> Finding:
    message = f"the projection of `{other.student}` is to be kept by one match, and folded by another"
    also = (Mark((*one.path, "projection"), str(_written(one))),)
    return Finding(
        _WIDTHS, message, (*other.path, "projection"), str(_written(other)), also=also, help="write one of the two"
    )


class ProjectionRule:
    """Decides on the projections of matches."""

    def __init__(
        self,
        registry: Registry,
        facts: Mapping[str, ModelFacts],
        kept: Kept | None = None,
    ) -> None:
        self.registry, self.facts, self._kept = registry, facts, kept or Kept()

    def kept(self, compared: Compared) -> Projection | None:
        """The projection that is a layer of the student, where the match is one of those that it is for."""
        found = self._kept.projections.get(compared.student)
        if found is None or not self._kept.concerns(compared):
            return None
        made: Projection = self.registry.get("projection", "fold" if found.folded else "keep")()
        return made

    def of(self, compared: Compared) -> tuple[Projection | None, ProjectionOrigin]:
        """The projection of a match, or None, and its origin; only for a match without `mistakes`."""
        match, feature, loss, teacher, student, _ = compared
        off = match.projection is not None and not match.projection.projects
        if feature in ATTENTION:
            return None, "unneeded"
        if match.projection is not None and not off and match.projection.keeps is None:
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
        if match.projection is not None and (name := match.projection.keeps) is not None:
            if feature != EMBEDDING:
                message = f"`{name}` is for `{EMBEDDING}`, the vector of a text, not for `{feature}`"
                yield Finding(
                    "KD313", message, at, help="write `linear`, or leave it out: it is derived where widths differ"
                )
            elif name not in (allowed := self._kept.allowed.get(student, frozenset())):
                message = f"`{student}` has no linear layer at its end, into which a projection could be folded"
                help_ = "write `keep`, or give it `readout: {dense: [...]}`"
                if not allowed:
                    message, help_ = f"a projection cannot become a layer of `{student}`", "write `drop`"
                yield Finding(_WIDTHS, message, at, help=help_)
            elif None in widths:
                model = student if widths[0] is None else teacher
                message = (
                    f"`{name}` needs the width of `{EMBEDDING}` of `{model}`, which is not known before it is built"
                )
                yield Finding(_WIDTHS, message, at, help="write `drop`")
        if off and loss.same_width and None not in widths and widths[0] != widths[1]:
            message = f"`{student}` is {widths[0]} wide, `{teacher}` {widths[1]}, and `projection` is `none`"
            sides = tuple(
                Mark(("models", model), f"{width} wide", key=True)
                for model, width in zip((student, teacher), widths, strict=True)
            )
            kind = "projection" if feature == EMBEDDING else "linear projection"
            help_ = f"remove `projection: none`, and a {kind} {widths[0]} → {widths[1]} is derived"
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
