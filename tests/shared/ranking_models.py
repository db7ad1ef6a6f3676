"""A model that scores candidates by itself, in each of the forms, for tests without a transformers model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kdspec import Component, Model, ModelContext, hookimpl


class Scorer(nn.Module):
    """The dot product of mean token vectors, or a linear score of a pair's mean."""

    def __init__(self, tokens: int, width: int = 8, seed: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.vectors = nn.Embedding(tokens, width)
            self.out = nn.Linear(width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        query: dict[str, Tensor] | None = None,
        document: dict[str, Tensor] | None = None,
        queries: Tensor | None = None,
        candidates: Tensor | None = None,
    ) -> dict[str, Any]:
        assert candidates is not None
        there = candidates.clamp(min=0)
        if input_ids is not None and attention_mask is not None:
            return {"logits": self.out(self._mean(input_ids, attention_mask)).squeeze(-1)[there]}
        assert query is not None
        assert document is not None
        assert queries is not None
        asked = self._mean(query["input_ids"], query["attention_mask"])
        answers = self._mean(document["input_ids"], document["attention_mask"])
        logits = (asked[queries][:, None] * answers[there]).sum(-1)
        return {"logits": logits, "query_vectors": asked, "document_vectors": answers}

    def _mean(self, ids: Tensor, mask: Tensor) -> Tensor:
        kept = mask[..., None].to(self.vectors.weight.dtype)
        return (self.dropout(self.vectors(ids)) * kept).sum(1) / kept.sum(1)


class TwoTowers(Model):
    """A `Scorer` that reads each text alone, or pairs, with the tokenizer in the folder `letters`."""

    name = "two_towers"
    scope = "row"
    dropout: float = 0.0
    """Part of the values that is dropped while it trains."""
    pairs: bool = False
    """Whether it reads each query with each document."""

    def form(self, context: ModelContext) -> str:
        return "pair" if self.pairs else "each"

    def tokenizer(self, context: ModelContext) -> Any:
        import transformers

        return transformers.AutoTokenizer.from_pretrained(context.folder / "letters")

    def tokenizer_id(self, context: ModelContext) -> str:
        return "letters"

    def build(self, context: ModelContext) -> Any:
        return Scorer(len(self.tokenizer(context)), dropout=self.dropout).double()


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The model."""
    return [TwoTowers]
