"""Metrics with the dot product of vectors of unit length, which are those with their cosine."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

_SAME = 1e-6
"""The difference of Pearson's correlations that rounding explains. Spearman's may differ by more: it changes the order of
pairs that are equally alike."""
_PEARSON, _SPEARMAN, _DOT = "pearson", "spearman", "_dot"


def repeated(rows: Iterable[Mapping[str, float]], selected_by: Collection[str] = ()) -> frozenset[str]:
    """The metrics of sets of pairs that tell nothing beside others, and are not shown.

    Args:
        rows: the metrics of one model, or of each of several that are shown side by side.
        selected_by: the metrics that select the best student, which are shown.
    """
    every = list(rows)
    found: set[str] = set()
    for name in dict.fromkeys(name for metrics in every for name in metrics if name.endswith(_PEARSON + _DOT)):
        cosine = name.removesuffix(_DOT)
        pairs = [(metrics[name], metrics[cosine]) for metrics in every if name in metrics and cosine in metrics]
        if pairs and all(abs(dot - other) <= _SAME for dot, other in pairs):
            found |= {name, f"{cosine.removesuffix(_PEARSON)}{_SPEARMAN}{_DOT}"}
    return frozenset(found.difference(selected_by))
