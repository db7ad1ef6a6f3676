"""Reductions of a teacher's layers that are enough for the losses, so that a cache need not store the layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kdspec.api.kinds.losses import Reduction
from kdspec.api.spec.match import PlannedMatch


@dataclass(frozen=True)
class Reduced:
    """A reduction of one layer of a feature, or of two for a loss that takes pairs."""

    reduction: Reduction
    feature: str
    layers: tuple[int, ...]

    @property
    def name(self) -> str:
        """Its name among the features: `similarity of hidden 0, 4`."""
        layers = ", ".join(str(layer) for layer in dict.fromkeys(self.layers))
        return f"{self.reduction} of {self.feature} {layers}"


def reduced(match: PlannedMatch) -> Reduced | None:
    """The reduction that is enough for a match; None if it needs its layers, or compares a feature as a whole."""
    # A loss over a whole step concatenates its inputs, which must have the same form in all micro-batches.
    reduction = None if match.loss.scope == "step" else match.loss.reduces()
    return Reduced(reduction, match.feature, match.teacher_layers) if reduction and match.teacher_layers else None


def reductions(matches: Iterable[PlannedMatch], teacher: str) -> tuple[Reduced, ...]:
    """The reductions to store of a teacher: those of layers that no loss needs as a whole."""
    own = [match for match in matches if match.teacher == teacher]
    enough = {match.term: found for match in own if (found := reduced(match)) is not None}
    while True:
        # A layer that one loss needs as a whole is stored, so that a reduction of it would only add to the size.
        kept = {(m.feature, layer) for m in own if m.term not in enough for layer in m.teacher_layers}
        fewer = {t: r for t, r in enough.items() if not kept & {(r.feature, layer) for layer in r.layers}}
        if len(fewer) == len(enough):
            return tuple(dict.fromkeys(enough.values()))
        enough = fewer
