"""What is enough of a teacher's layers for the losses that read them, so that a cache need not keep the layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kdspec.api.losses import Reduction
from kdspec.api.match import PlannedMatch


@dataclass(frozen=True)
class Reduced:
    """A reduction of one layer of a feature, or of two for a loss that takes pairs."""

    reduction: Reduction
    feature: str
    layers: tuple[int, ...]

    @property
    def name(self) -> str:
        """What it is called among the features: `similarity of hidden 0, 4`."""
        layers = ", ".join(str(layer) for layer in dict.fromkeys(self.layers))
        return f"{self.reduction} of {self.feature} {layers}"


def reduced(match: PlannedMatch) -> Reduced | None:
    """What is enough for a match; None for one that needs its layers, or compares a feature as a whole."""
    # A loss over a whole step gathers what it compares, which is to be the same in all micro-batches.
    reduction = None if match.loss.scope == "step" else match.loss.reduces()
    return Reduced(reduction, match.feature, match.teacher_layers) if reduction and match.teacher_layers else None


def reductions(matches: Iterable[PlannedMatch], teacher: str) -> tuple[Reduced, ...]:
    """What is enough of a teacher: the reductions of layers of which nobody needs more."""
    own = [match for match in matches if match.teacher == teacher]
    enough = {match.term: found for match in own if (found := reduced(match)) is not None}
    while True:
        # A layer that one loss needs is kept, and then nothing is gained by keeping a reduction of it as well.
        kept = {(m.feature, layer) for m in own if m.term not in enough for layer in m.teacher_layers}
        fewer = {t: r for t, r in enough.items() if not kept & {(r.feature, layer) for layer in r.layers}}
        if len(fewer) == len(enough):
            return tuple(dict.fromkeys(enough.values()))
        enough = fewer
