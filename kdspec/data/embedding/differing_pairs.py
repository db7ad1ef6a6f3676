"""The pairs of texts whose similarity differs most between a model and its teacher: plain data for the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdspec.data.answers.differing_texts import DifferingAnswers, GivenAnswer, farthest
from kdspec.data.embedding.unique_texts import Vectors

if TYPE_CHECKING:
    from torch import Tensor

_AT_ONCE = 4096
"""Pairs whose vectors are compared at once."""


@dataclass(frozen=True)
class ComparedPairs:
    """Pairs of texts by number, of which the similarity means something."""

    first: Sequence[int]
    second: Sequence[int]
    scores: Sequence[float] | None = None
    """How alike the two of each pair are; None if that is not known."""
    are_rows: bool = True
    """Whether a pair is a row of its set."""


def differing_pairs(
    mine: Vectors, teachers: Vectors, sets: Mapping[str, ComparedPairs], texts: Sequence[str]
) -> dict[str, Any]:
    """The pairs with the largest |cosine of the model - cosine of the teacher|; a pair without finite vectors is not compared.

    Args:
        mine: the vectors of the model.
        teachers: those of its teacher, of any width.
        sets: the pairs of each set by its name.
        texts: the texts by number.
    """
    import torch

    places = [(name, place) for name, pairs in sets.items() for place in range(len(pairs.first))]
    both = (
        [torch.cat([_cosines(side, pairs) for pairs in sets.values()]) for side in (mine, teachers)] if places else []
    )
    if not both:
        return {}
    apart = (both[0] - both[1]).abs()
    compared = int(apart.isfinite().sum())
    if not compared:
        return {}
    chosen = []
    for number in farthest(apart.tolist()):
        name, place = places[number]
        pairs = sets[name]
        first, second = (GivenAnswer(f"{each[number].item():.3f}") for each in both)
        found = DifferingAnswers(
            row=place if pairs.are_rows else None, texts=[texts[pairs.first[place]], texts[pairs.second[place]]],
            mine=first, teachers=second, about=f"{name}, cosines {apart[number].item():.3f} apart",
            labels=() if pairs.scores is None else [f"{pairs.scores[place]:.4g}"],
        )  # fmt: skip
        chosen.append(found.data())
    return {"compared": compared, "differ": None, "differing": chosen, "counted": "pairs"}


def _cosines(vectors: Vectors, pairs: ComparedPairs) -> Tensor:
    """The cosine of each pair, float64; NaN where a vector is not known."""
    import torch

    from kdspec.ops.retrieval.neighbours import directions

    first, second = (torch.tensor(side, dtype=torch.long) for side in (pairs.first, pairs.second))
    parts = [slice(start, start + _AT_ONCE) for start in range(0, len(first), _AT_ONCE)]
    found = [
        (directions(vectors.table[first[part]].double()) * directions(vectors.table[second[part]].double())).sum(-1)
        for part in parts
    ]
    known = vectors.known[first] & vectors.known[second]
    return torch.cat(found).masked_fill(~known, math.nan)
