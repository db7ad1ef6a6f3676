"""Hard labels of scores: the positives of a query among its candidates, or among the documents of several rows."""

from __future__ import annotations

import torch
from torch import Tensor

from kdspec.ops.mean import Mean
from kdspec.ops.precision import full, widened


def cross_entropy_of_positives(scores: Tensor, positives: Tensor, candidates: Tensor) -> Mean:
    """The cross-entropy of each positive among the negatives of its query, -log(e^s⁺ / (e^s⁺ + Σ e^s⁻)).

    The mean over the positives of a row, then over the rows with a positive. Another positive of the row is no negative, so
    with one positive it is the cross-entropy over all candidates. A row without a negative has the loss 0.

    Args:
        scores: `(rows, n)`; masked ones may have any value.
        positives: `(rows, n)`, not 0 for a positive.
        candidates: `(rows, n)`, not 0 for a candidate.
    """
    scores, there = widened(scores), candidates != 0
    right = there & (positives != 0)
    wrong = there & ~right
    # Rows without negatives get one of score 0 for the sum, which is replaced below: a sum of nothing has no gradient.
    alone = ~wrong.any(-1, keepdim=True)
    negatives = torch.where(wrong, scores, torch.where(alone, 0.0, -torch.inf)).logsumexp(-1, keepdim=True)
    each = torch.logaddexp(negatives - torch.where(right, scores, 0.0), torch.zeros_like(scores))
    counted = right & ~alone
    number = right.sum(-1)
    rows = torch.where(counted, each, 0.0).sum(-1) / number.clamp(min=1)
    return Mean(rows.sum(), (number > 0).sum(), "labelled")


def cross_entropy_in_batch(scores: Tensor, documents: Tensor, positives: Tensor, known: Tensor) -> Mean:
    """The cross-entropy of each positive among all documents of several rows: in-batch negatives.

    As `cross_entropy_of_positives`, with the documents of the other rows as further negatives. A text that stands there
    several times is one document, the first of them; another known positive of the query is no negative.

    Args:
        scores: `(rows, documents)`.
        documents: `(documents,)`, the number of each document's text.
        positives: `(rows, p)`, the numbers of the row's positives; 0 for none.
        known: `(rows, k)`, those of other known positives of its query; 0 for none.

    Karpukhin et al. 2020, "Dense Passage Retrieval for Open-Domain Question Answering" (https://arxiv.org/abs/2004.04906),
    section 3.2.
    """
    same = documents[:, None] == documents
    first = same.to(torch.int8).argmax(-1) == torch.arange(len(documents), device=documents.device)
    right, never = first & _among(documents, positives), _among(documents, known)
    return cross_entropy_of_positives(scores, right, first & (right | ~never))


def scores_between(query: Tensor, document: Tensor, mask: Tensor | None = None) -> Tensor:
    """The score of each query with each document, `(queries, documents)`, in float32 or wider.

    Args:
        query: vectors, `(queries, width)`, or those of tokens, `(queries, length, width)`, which are 0 at padding.
        document: vectors, `(documents, width)`, or those of tokens, `(documents, length, width)`.
        mask: the tokens of documents that are not padding, `(documents, length)`. With vectors of tokens, the score is the sum
            over the query's tokens of the largest product with a token of the document.
    """
    query, document = widened(query), widened(document)
    with full(query):
        if mask is None:
            return query @ document.T
        tokens, there = document.flatten(0, 1), mask != 0
        rows = []
        for one in query:  # all products at once would need the memory of queries x documents x tokens of both
            products = (one @ tokens.T).unflatten(-1, there.shape)
            rows.append(torch.where(there, products, -torch.inf).amax(-1).sum(0))
        return torch.stack(rows)


def _among(documents: Tensor, numbers: Tensor) -> Tensor:
    """Whether each document is among the numbers of each row, `(rows, documents)`."""
    found = torch.zeros(len(numbers), len(documents), dtype=torch.bool, device=documents.device)
    for column in numbers.unbind(1):
        found |= documents == column[:, None]
    return found
