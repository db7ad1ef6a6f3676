"""Vectors of texts as predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from kdspec.api.working.row_answers import RowAnswers
from kdspec.data.answers.exact_numbers import exact

if TYPE_CHECKING:
    from kdspec.api.working.batch import Batch
    from kdspec.api.working.step import Features


class VectorAnswers(RowAnswers):
    """The vector of each text, a list of numbers."""

    reads = frozenset({"embedding"})
    optional = frozenset[str]()
    columns = ("embedding",)
    probable = False

    def of(self, batches: Iterable[tuple[Features, Batch]], *, probabilities: bool) -> Iterator[dict[str, Any]]:
        """One text after another."""
        del probabilities
        for features, _ in batches:
            yield from ({"embedding": vector} for vector in exact(features.heads("embedding")[0]))
