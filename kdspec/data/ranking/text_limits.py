"""Limits on the tokens of a query and of a document, as a spec writes them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from kdspec.api.component import Strict
from kdspec.api.spec.bounds import LONGEST_ROW
from kdspec.data.ranking.ranking_inputs import Limits

_Length = Annotated[int, Field(ge=2, le=LONGEST_ROW)]


class TextLimits(Strict):
    """Limits of the two texts."""

    query: _Length | None = None
    """Of a query."""
    document: _Length | None = None
    """Of a document."""


def _form(value: Any) -> str:
    return "each" if isinstance(value, (dict, TextLimits)) else "both"


MaxLength = Annotated[Annotated[_Length, Tag("both")] | Annotated[TextLimits, Tag("each")], Discriminator(_form)]
"""One limit, or one for each of the two texts."""


def limits_of(given: int | TextLimits | None) -> Limits:
    """The limits of queries, documents and pairs of them."""
    if not isinstance(given, TextLimits):
        return Limits(given, given, given)
    both = None if given.query is None or given.document is None else given.query + given.document
    return Limits(given.query, given.document, both)
