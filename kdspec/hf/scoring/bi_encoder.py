"""A bi-encoder: queries and documents have vectors of their own, whose similarity is the score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from kdspec.hf.embedding.readout import Readout
from kdspec.hf.embedding.text_embedder import EmbedderOutput, TextEmbedder
from kdspec.hf.scoring.reads import NAMES, Comparison
from kdspec.ops.precision import widened
from kdspec.ops.ranking.text_scores import candidate_scores


@dataclass
class BiEncoderOutput(EmbedderOutput):
    """What a bi-encoder returns."""

    logits: Tensor | None = None
    """`(rows, n)`, the scores of each row's candidates."""
    query_embedding: Tensor | None = None
    """`(queries, width)`, the vectors of the distinct queries; for `maxsim` of their tokens, `(queries, length, width)`, 0 at
    padding. `embedding` has those of queries and documents one after another, but not for `maxsim`."""
    document_embedding: Tensor | None = None
    """Those of the distinct documents."""
    query_vectors: Tensor | None = None
    """`query_embedding` such that its products with `document_vectors` are the scores: of length `scale` for cosines."""
    document_vectors: Tensor | None = None
    """`document_embedding`, of length 1 for cosines."""
    answers: Tensor | None = None
    """Of texts alone: what their scores are made of, the vector of each text or those of its tokens."""


class BiEncoder(TextEmbedder):
    """A text embedder that compares the texts of a batch; it takes the tokens of texts alone too.

    Args:
        body: the model, which returns a `last_hidden_state`.
        readout: how a vector is made of it.
        comparison: how two vectors are compared.
    """

    def __init__(self, body: PreTrainedModel, readout: Readout, comparison: Comparison) -> None:
        super().__init__(body, readout)
        self.comparison = comparison
        self.compares = NAMES[comparison.similarity]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        query: Mapping[str, Tensor] | None = None,
        document: Mapping[str, Tensor] | None = None,
        queries: Tensor | None = None,
        candidates: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> BiEncoderOutput:
        """The scores of candidates, or of texts alone their vectors.

        Args:
            input_ids: of texts alone, `(texts, length)`.
            attention_mask: theirs.
            token_type_ids: theirs.
            query: the tokens of the distinct queries of the batch.
            document: those of the distinct documents.
            queries: `(rows,)`, the number of each row's query.
            candidates: `(rows, n)`, the numbers of its documents, or -1.
            output_hidden_states: whether those of texts alone are returned.
            output_attentions: as well.
        """
        if query is None or document is None or queries is None or candidates is None:
            return self._alone(
                input_ids, attention_mask, token_type_ids,
                output_hidden_states=output_hidden_states, output_attentions=output_attentions,
            )  # fmt: skip
        asked, found = self._answers(query), self._answers(document)
        masks = query["attention_mask"], document["attention_mask"]
        return self._compared(asked, found, queries, candidates, masks)

    def put_together(
        self,
        answers: Tensor,
        mask: Tensor | None,
        *,
        query: Mapping[str, Tensor],
        queries: Tensor,
        candidates: Tensor,
        **others: Any,
    ) -> BiEncoderOutput:
        """The output for rows whose texts have these vectors: of the distinct queries, then of the distinct documents.

        Args:
            answers: `(texts, width)`, or `(texts, length, width)` for `maxsim`.
            mask: the tokens that are not padding, `(texts, length)`.
            query: the tokens of the queries, which tell their number.
            queries: as for `forward`.
            candidates: as for `forward`.
            others: what is not needed.
        """
        del others
        number = len(query["input_ids"])
        masks = None if mask is None else (mask[:number], mask[number:])
        return self._compared(answers[:number], answers[number:], queries, candidates, masks)

    def extra_repr(self) -> str:
        """As for a text embedder, and how texts are compared."""
        return f"{super().extra_repr()}, similarity={self.comparison.similarity}, scale={self.comparison.scale}"

    def _answers(self, tokens: Mapping[str, Tensor]) -> Tensor:
        keys = ("input_ids", "attention_mask", "token_type_ids")
        answers = self._alone(*(tokens.get(key) for key in keys)).answers
        assert answers is not None, "texts alone have them"
        return answers

    def _alone(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **flags: bool | None,
    ) -> BiEncoderOutput:
        found = super().forward(input_ids, attention_mask, token_type_ids, **flags)
        answers = found.embedding
        if self.comparison.similarity == "maxsim":
            assert found.last_hidden_state is not None
            answers = self._of_tokens(found.last_hidden_state, attention_mask)
        return BiEncoderOutput(**found, answers=answers)

    def _of_tokens(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """The vector of each token, of length 1, through the dense layers; 0 at padding."""
        for dense in self.layers:
            states = dense(states)
        vectors = functional.normalize(states, dim=-1)
        return vectors if mask is None else torch.where(mask[..., None] != 0, vectors, 0.0)

    def _compared(
        self, query: Tensor, document: Tensor, queries: Tensor, candidates: Tensor, masks: tuple[Tensor, Tensor] | None
    ) -> BiEncoderOutput:
        how = self.comparison
        scores = candidate_scores(query, document, queries, candidates, how.similarity, masks=masks)
        asked, found = widened(query), widened(document)
        if how.similarity == "cos":
            asked, found = functional.normalize(asked, dim=-1), functional.normalize(found, dim=-1)
        return BiEncoderOutput(
            logits=scores * how.scale,
            query_vectors=asked * how.scale,
            document_vectors=found,
            query_embedding=query,
            document_embedding=document,
            embedding=None if how.similarity == "maxsim" else torch.cat([query, document]),
        )
