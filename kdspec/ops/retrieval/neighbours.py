"""Nearest neighbours by cosine. Vectors are `(vectors, width)`; similarities are computed in chunks of rows.

Ties count as what they are: of several equally near vectors any one may be the nearest. A model that gives one vector for
every text is then right by chance, and not because the right answer comes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_CHUNK = 1 << 24
"""Cosines that are computed at once: 64 MiB."""
_EQUAL = 1e-6
"""Cosines of float32 vectors that differ by less are tied."""


def directions(vectors: Tensor) -> Tensor:
    """The vectors with the norm 1; a vector of zeros stays one."""
    return torch.nn.functional.normalize(vectors, dim=-1)


def nearest_is_right(queries: Tensor, candidates: Tensor, right: Sequence[Sequence[int]]) -> Tensor:
    """For each query the probability that a nearest candidate is a right one, `(queries,)` float64; NaN if a vector is NaN.

    Args:
        queries: `(queries, width)`.
        candidates: `(candidates, width)`.
        right: the numbers of the right candidates of each query.
    """
    found = []
    for start, tied in _nearest(directions(queries), directions(candidates)):
        answers = right[start : start + len(tied)]
        rows = torch.tensor([row for row, numbers in enumerate(answers) for _ in numbers], dtype=torch.long)
        columns = torch.tensor([number for numbers in answers for number in numbers], dtype=torch.long)
        wanted = torch.zeros_like(tied)
        wanted[rows, columns] = True
        found.append((tied & wanted).sum(1).double() / tied.sum(1))
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)


def same_nearest(first: Tensor, second: Tensor) -> Tensor:
    """For each row how far two models agree on its nearest other row, `(rows,)` float64 from 0 to 1; NaN if a vector is NaN.

    It is 1 if both have the same nearest row. Where several are tied it is the number of those that are nearest for both,
    divided by the number of those that are so for either.

    Args:
        first: `(rows, width)`.
        second: `(rows, other width)`, of the same rows.
    """
    one, two = directions(first), directions(second)
    chunks = zip(_nearest(one, one, others=True), _nearest(two, two, others=True), strict=True)
    found = [
        torch.where(mine.any(1) & theirs.any(1), (mine & theirs).sum(1).double() / (mine | theirs).sum(1), torch.nan)
        for (_, mine), (_, theirs) in chunks
    ]
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)


def _nearest(queries: Tensor, candidates: Tensor, *, others: bool = False) -> Iterator[tuple[int, Tensor]]:
    """For each chunk of queries its first row, and which candidates are nearest, `(rows, candidates)`.

    `others`: queries and candidates are the same, and none is its own neighbour.
    """
    size = max(1, _CHUNK // max(1, len(candidates)))
    for start in range(0, len(queries), size):
        cosines = queries[start : start + size] @ candidates.T
        if others:
            rows = torch.arange(len(cosines))
            cosines[rows, start + rows] = -torch.inf
        yield start, cosines >= cosines.amax(1, keepdim=True) - _EQUAL
