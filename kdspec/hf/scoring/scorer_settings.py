"""The parameters of a model that scores the candidates of a query, and how it reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from kdspec.api.kinds.model import Model, ModelContext
from kdspec.api.spec.bounds import LARGEST_FACTOR
from kdspec.hf.scoring.reads import HEAD, Comparison, Reads, Similarity


class ScoresCandidates(Model):
    """The base class of models with a head that scores candidates."""

    reads: Reads | None = None
    """For the task `ranking`: `pair`, a cross-encoder that reads a query and a document as one text and has a head of one
    number; or `each`, a bi-encoder that makes a vector of each text and compares two. Default: `pair` for a folder with such a
    head, `each` for one of sentence-transformers."""
    similarity: Similarity | None = None
    """With `reads: each`: `cos` or `dot` of the two vectors, or `maxsim`, late interaction: of normalised vectors of all
    tokens, the sum over the query's of the largest product with one of the document's. Default: as a folder of
    sentence-transformers says, else `cos`."""
    scale: float | None = Field(default=None, gt=0, le=LARGEST_FACTOR)
    """With `reads: each`: the factor of the similarity. Default: 20 for `cos`, else 1."""

    @model_validator(mode="after")
    def _compares_vectors(self) -> Self:
        for key in ("similarity", "scale") if self.reads == "pair" else ():
            if getattr(self, key) is not None:
                context = {"keys": ["reads", key], "one": "reads: pair", "other": key,
                           "help": "a cross-encoder has a head, and compares no vectors"}  # fmt: skip
                raise PydanticCustomError("exclusive_keys", "`{one}` and `{other}` exclude each other", context)
        return self

    def form(self, context: ModelContext) -> str:
        """`pair` or `each`, where its task ranks candidates and the spec or the folder tells it."""
        kinds = {head.kind for head in (*context.heads.values(), context.head) if head is not None}
        return (self.reads_as(context) or "") if HEAD in kinds else ""

    def reads_as(self, context: ModelContext) -> Reads | None:
        """How it reads texts, by the spec or its files; None if neither tells it."""
        del context
        return self.reads

    def comparison(self, folder: Path | None) -> Comparison:
        """How it compares texts; `folder` is where it is loaded from, if that is on this machine."""
        return Comparison.of(self.similarity, self.scale, folder)
