"""Students with one vector a token: `static`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, cast

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.model import ModelContext
from kdspec.api.spec.bounds import LARGEST_WIDTH
from kdspec.diagnostics.fault import Fault
from kdspec.networks import token_vectors
from kdspec.networks.text_model import TextModel

if TYPE_CHECKING:
    from torch import nn

    from kdspec.networks.static_embeddings import StaticEmbeddings

_SIF = 1e-4


class StaticTextModel(TextModel):
    """One vector a token: the embedding of a text is their mean, so that a look-up is all that it computes.

    With `like` the vectors begin as Model2Vec's: each token of the teacher's vocabulary goes through the teacher alone,
    pooled as its readout does it; principal components make the vectors `width` wide; and frequent tokens count less
    (`sif`). A teacher that an earlier stage trains is taken as trained. Special tokens and `[unused...]` have the vector 0,
    and special and unknown tokens are not counted in the mean. With `tokenizer` the vectors are random.

    It has 0 layers: `hidden_states` is the vectors of the tokens. For classification and regression the head is on the
    embedding.
    Papers: Arora et al. 2017 (https://openreview.net/forum?id=SyK00v5xx) for the weights; Model2Vec
    (https://github.com/MinishLab/model2vec).
    """

    name = "static"
    heads = frozenset({"embedding", "sequence_classification", "multi_label", "regression"})

    width: int = Field(default=256, gt=0, le=LARGEST_WIDTH)
    """Width of the vectors; with `like` at most that of the teacher's."""
    sif: float | None = Field(default=_SIF, gt=0, le=1)
    """With `like`: a vector is multiplied by a/(a + p), where a is this number and p the token's share of a text by
    Zipf's law and its rank in the vocabulary. Null: vectors as they are."""
    weights: bool = False
    """Whether each token has a trained weight beside its vector; with `like` it begins as that of `sif`."""
    normalize: bool = True
    """Whether embeddings have length 1."""

    @model_validator(mode="after")
    def _sif_of_a_teacher(self) -> Self:
        if self.tokenizer_ is not None and self.sif != _SIF:
            keys = {"keys": ["tokenizer", "sif"], "one": "tokenizer", "other": "sif"}
            raise PydanticCustomError("exclusive_keys", "`{one}` and `{other}` exclude each other", keys)
        return self

    def sizes(self, kind: str) -> dict[str, Any]:
        """The arguments of `StaticEmbeddings`."""
        has_head = kind != "embedding"
        return {"embedding": self.width, "normalize": self.normalize, "weights": self.weights, "head": has_head}

    def of_tokenizer(self, context: ModelContext) -> dict[str, Any]:
        """The number of tokens, and those that are not counted; where only shapes are needed, the tokenizer may be missing."""
        found = super().of_tokenizer(context)
        try:
            tokenizer = self.own_tokenizer(context)
        except Fault:
            return found
        return {"vocabulary": max(tokenizer.get_vocab().values()) + 1, "ignored": token_vectors.special(tokenizer)}

    def shape(self, sizes: Mapping[str, Any]) -> tuple[int, int]:
        """No layers, and the vectors."""
        return 0, sizes["embedding"]

    def check(self, context: ModelContext) -> Iterator[Fault]:
        """Check that the teacher's vectors are as wide as these."""
        known = context.facts.get(self.like or "")
        if known is not None and known.width is not None and self.width > known.width:
            yield self._too_wide(
                f"the vectors of `{self.like}` are {known.width} wide, these {self.width}", known.width
            )

    def begin(self, module: nn.Module, context: ModelContext) -> frozenset[str]:
        """Take the vectors of the teacher's tokens, if there is one."""
        import torch

        if self.like is None:
            return frozenset()
        made = cast("StaticEmbeddings", module)
        tokenizer, limits = self.own_tokenizer(context), context.models[self.like].input_limits(context)
        tokens = token_vectors.real_tokens(tokenizer, limits.vocabulary)
        vectors = token_vectors.embedded(context.built[self.like], token_vectors.rows_of_one(tokenizer, tokens))
        most = min(vectors.shape[1], len(tokens) - 1)
        if self.width > most:
            message = f"{len(tokens):,} tokens with vectors of `{self.like}` of width {vectors.shape[1]} have {most} components"
            raise self._too_wide(message, most)
        vectors, weights = (
            token_vectors.principal(vectors, self.width),
            token_vectors.frequency_weights(len(tokens), self.sif),
        )
        with torch.no_grad():
            made.embeddings.weight.zero_()
            if made.weights is None:
                made.embeddings.weight[tokens] = vectors * weights[:, None]
                return frozenset({"embeddings.weight"})
            made.embeddings.weight[tokens], made.weights[tokens] = vectors, weights
        return frozenset({"embeddings.weight", "weights"})

    def _too_wide(self, message: str, most: int) -> Fault:
        at = "width" if "width" in self.model_fields_set else "like"
        return Fault("KD302", message, (at,), help=f"write `width: {most}`, or less")


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The models."""
    return [StaticTextModel]
