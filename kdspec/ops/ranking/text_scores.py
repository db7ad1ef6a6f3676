"""Scores of candidates from the vectors of texts: cosine, dot product, and late interaction."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from kdspec.ops.precision import full, widened

Similarity = Literal["cos", "dot", "maxsim"]
"""How two texts are compared: by the cosine or the dot product of their vectors, or token by token."""


def candidate_scores(
    query: Tensor,
    document: Tensor,
    queries: Tensor,
    candidates: Tensor,
    similarity: Similarity,
    *,
    masks: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The score of each candidate of each row, `(rows, n)`, in float32 or wider.

    `maxsim` sums, over the tokens of the query, the largest product with a token of the document: Khattab and Zaharia 2020,
    "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over BERT"
    (https://arxiv.org/abs/2004.12832).

    Args:
        query: vectors of the distinct queries, `(queries, width)`; for `maxsim` of their tokens, `(queries, length, width)`.
        document: those of the distinct documents.
        queries: `(rows,)`, the number of each row's query.
        candidates: `(rows, n)`, the numbers of its documents; the score of a number below 0 is finite and means nothing.
        similarity: how two texts are compared.
        masks: for `maxsim` the tokens of queries and documents that count, `(texts, length)`.
    """
    query, document = widened(query), widened(document)
    if similarity == "cos":
        query, document = functional.normalize(query, dim=-1), functional.normalize(document, dim=-1)
    there = candidates.clamp(min=0)
    asked, found = query[queries], document[there]
    if similarity != "maxsim":
        return (asked[:, None] * found).sum(-1)
    assert masks is not None, "late interaction compares tokens, of which some are padding"
    counts, kept = masks[0][queries] != 0, masks[1][there] != 0
    with full(query):
        # One product for each row: all of its candidates, one after another.
        products = asked @ found.flatten(1, 2).mT
    products = products.reshape(*products.shape[:2], *found.shape[1:3]).transpose(1, 2)
    largest = torch.where(kept[:, :, None], products, -torch.inf).amax(-1)
    # A query's padding counts nothing; a document has at least one token.
    return torch.where(counts[:, None], largest, 0.0).sum(-1)
