"""Exact search: the best documents of each query, and the ranks of given documents, computed block by block.

Scores are computed in float64 and rounded to 2^-26 of the largest that a query can have (for cosines 1.5e-8), so that equal texts
tie whatever the blocks. Of documents with equal scores the first one is ranked first. A score that is NaN is the lowest.
"""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

_BLOCK = 2**22
"""Numbers in the largest tensor of a block: 32 MB in float64."""
_SPARE = 32
"""Documents that faiss finds beyond those that are asked for, since it computes in float32."""
_UNITS = 2.0**26
"""Steps between 0 and the largest score of a query."""
_ROUNDING = 1e-2
"""How far from 1 a norm may be that is 1 but for the precision of a model."""
_LOWEST = -(2.0**30)
_LAST = 2**32 - 1


class Scores(ABC):
    """The scores of all pairs of a query and a document; they are never there at once."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Number of queries and of documents."""

    @property
    def cost(self) -> int:
        """Numbers that the score of one pair takes while it is computed."""
        return 1

    @abstractmethod
    def block(self, queries: slice, documents: slice) -> Tensor:
        """The scores of some queries and documents, float64 `(queries, documents)`."""

    @abstractmethod
    def pairs(self, query: Tensor, document: Tensor) -> Tensor:
        """The scores of pairs, given by their numbers, float64 `(pairs,)`."""

    @abstractmethod
    def of(self, queries: Tensor, documents: Tensor) -> Scores:
        """The scores of some queries and documents, given by their numbers, which may be repeated."""

    @abstractmethod
    def without_scale(self) -> Scores:
        """The same scores without a factor, if they are cosines, or sums of cosines, that have one."""

    @abstractmethod
    def largest(self) -> Tensor:
        """For each query what no score exceeds, also with the other sign, float64 `(queries,)`."""


@dataclass(frozen=True)
class VectorScores(Scores):
    """Dot products or cosines of vectors; the cosine of a zero vector is 0."""

    queries: Tensor
    """`(queries, width)`."""
    documents: Tensor
    """`(documents, width)`."""
    similarity: Literal["cos", "dot"] = "cos"

    @property
    def shape(self) -> tuple[int, int]:
        """Number of queries and of documents."""
        return len(self.queries), len(self.documents)

    def block(self, queries: slice, documents: slice) -> Tensor:
        """The product of two matrices."""
        return self.made(self.queries[queries]) @ self.made(self.documents[documents]).T

    def pairs(self, query: Tensor, document: Tensor) -> Tensor:
        """One product after another."""
        return (self.made(self.queries[query]) * self.made(self.documents[document])).sum(1)

    def of(self, queries: Tensor, documents: Tensor) -> VectorScores:
        """The same vectors in another order."""
        return VectorScores(self.queries[queries], self.documents[documents], self.similarity)

    def without_scale(self) -> VectorScores:
        """Divided by the norm of the queries, if all have the same one and documents have the norm 1."""
        return replace(self, queries=self.queries / _scale(self.queries, self.documents))

    def largest(self) -> Tensor:
        """1 for cosines; else the product of the norms."""
        if self.similarity == "cos":
            return torch.ones(len(self.queries), dtype=torch.float64)
        return _norms(self.queries) * _norms(self.documents).max()

    def made(self, vectors: Tensor) -> Tensor:
        """The vectors in float64, of length 1 for cosines."""
        return normalize(vectors.double(), dim=1) if self.similarity == "cos" else vectors.double()


@dataclass(frozen=True)
class TokenScores(Scores):
    """Late interaction: Σ over the query's tokens of the largest dot product with a token of the document.

    Khattab and Zaharia 2020, "ColBERT" (https://arxiv.org/abs/2004.12832). A text without tokens scores lowest as a document, and
    0 as a query.
    """

    queries: Tensor
    """The vectors of the tokens of all queries, one after another: `(tokens, width)`."""
    query_lengths: Tensor
    """Number of tokens of each query, int64 `(queries,)`."""
    documents: Tensor
    """The vectors of the tokens of all documents: `(tokens, width)`."""
    document_lengths: Tensor
    """Number of tokens of each document, int64 `(documents,)`."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of queries and of documents."""
        return len(self.query_lengths), len(self.document_lengths)

    @property
    def cost(self) -> int:
        """The tokens of a query of mean length times those of a document."""
        return max(1, -(-len(self.queries) // max(1, len(self.query_lengths)))) * max(
            1, -(-len(self.documents) // max(1, len(self.document_lengths)))
        )

    def block(self, queries: slice, documents: slice) -> Tensor:
        """The products of all tokens, then the maxima, then their sums."""
        first, firsts = _part(self.queries, self.query_lengths, queries)
        second, seconds = _part(self.documents, self.document_lengths, documents)
        best = torch.segment_reduce(second.double() @ first.double().T, "max", lengths=seconds, axis=0)
        return torch.segment_reduce(best.T.contiguous(), "sum", lengths=firsts, axis=0)

    def pairs(self, query: Tensor, document: Tensor) -> Tensor:
        """Pair by pair."""
        numbers = zip(query.tolist(), document.tolist(), strict=True)
        found = [self.block(slice(one, one + 1), slice(other, other + 1)) for one, other in numbers]
        return torch.cat([each.view(1) for each in found]) if found else torch.zeros(0, dtype=torch.float64)

    def of(self, queries: Tensor, documents: Tensor) -> TokenScores:
        """The same tokens in another order of texts."""
        one = chosen(self.queries, self.query_lengths, queries)
        return TokenScores(*one, *chosen(self.documents, self.document_lengths, documents))

    def without_scale(self) -> TokenScores:
        """Divided by the norm of the tokens of queries, if all have the same one and those of documents have the norm 1."""
        return replace(self, queries=self.queries / _scale(self.queries, self.documents))

    def largest(self) -> Tensor:
        """The sum of the norms of the query's tokens times the largest norm of a token of a document."""
        norms = torch.segment_reduce(_norms(self.queries), "sum", lengths=self.query_lengths, axis=0)
        return norms * _norms(self.documents).max()


def search(scores: Scores, k: int) -> tuple[Tensor, Tensor]:
    """The k best documents of each query, or all of them if there are fewer.

    With faiss installed it proposes the documents of `VectorScores`, whose scores are then computed here: the result is the same.

    Returns:
        Scores, float64 `(queries, k)`, and the numbers of the documents, int64 `(queries, k)`, the best first.
    """
    queries, documents = scores.shape
    k = min(k, documents)
    if not k or not queries:
        return torch.empty(queries, k, dtype=torch.float64), torch.empty(queries, k, dtype=torch.int64)
    keys = _Keys(scores.largest())
    found = torch.empty(queries, k, dtype=torch.int64)
    rest = torch.arange(queries)
    if isinstance(scores, VectorScores) and importlib.util.find_spec("faiss") is not None:
        found, certain = _proposed(scores, k, keys)
        rest = (~certain).nonzero().squeeze(1)
        scores = replace(scores, queries=scores.queries[rest])
    most, at_once = _together(scores)
    for rows in _slices(len(rest), most):
        best = torch.empty(rows.stop - rows.start, 0, dtype=torch.int64)
        for columns in _slices(documents, at_once):
            here = keys.of(scores.block(rows, columns), rest[rows, None], torch.arange(columns.start, columns.stop))
            best = torch.cat([best, here.topk(min(k, here.shape[1])).values], 1)
            best = best.topk(min(k, best.shape[1])).values
        found[rest[rows]] = best
    return keys.scores(found), _LAST - (found & _LAST)


def ranks(scores: Scores, query: Tensor, document: Tensor) -> Tensor:
    """The rank of each document among all documents for its query, counted from 1, int64 `(pairs,)`.

    Args:
        scores: of all queries and documents.
        query: the number of the query of each pair, int64 `(pairs,)`.
        document: the number of its document.
    """
    order = query.argsort(stable=True)
    query, document = query[order], document[order]
    before = torch.zeros(len(query), dtype=torch.int64)
    if not len(query):
        return before
    unit = _Keys(scores.largest()).unit
    most, at_once = _together(scores)
    starts = torch.searchsorted(query, torch.arange(0, scores.shape[0] + most, most)).tolist()
    for rows, first, last in zip(_slices(scores.shape[0], most), starts, starts[1:], strict=False):
        parts = [slice(first + part.start, first + part.stop) for part in _slices(last - first, most)]
        least = [_least(scores.pairs(query[part], document[part]), unit[query[part]]) for part in parts]
        for columns in _slices(scores.shape[1], at_once) if parts else ():
            block = scores.block(rows, columns).nan_to_num_(-torch.inf, torch.inf, -torch.inf)
            for part, (as_high, higher) in zip(parts, least, strict=True):
                # Of equal scores the earlier document is first. A document is not before itself, however its products are summed.
                own = document[part] - columns.start
                inside = ((own >= 0) & (own < block.shape[1])).nonzero().squeeze(1)
                of_pairs = block[query[part] - rows.start]
                of_pairs[inside, own[inside]] = -torch.inf
                beyond = of_pairs >= torch.where(own >= block.shape[1], as_high, higher)[:, None]
                earlier = torch.arange(block.shape[1]) < own[inside, None]
                beyond[inside] |= earlier & (of_pairs[inside] >= as_high[inside, None])
                before[part] += beyond.sum(1)
    found = torch.empty_like(before)
    found[order] = before + 1
    return found


def _together(scores: Scores) -> tuple[int, int]:
    """Numbers of queries and documents of a block."""
    pairs = max(1, _BLOCK // scores.cost)
    queries = max(1, min(512, int(pairs**0.5)))
    return queries, max(1, pairs // queries)


def _slices(number: int, most: int) -> Iterator[slice]:
    return (slice(start, min(start + most, number)) for start in range(0, number, most))


def _part(tokens: Tensor, lengths: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
    """The tokens of some texts, and how many each has."""
    start = int(lengths[: rows.start].sum())
    return tokens[start : start + int(lengths[rows].sum())], lengths[rows]


def _least(scores: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    """The least scores that are rounded to as much as these, and to more."""
    units = _rounded(scores / unit)
    return torch.where(units == _LOWEST, -torch.inf, (units - 0.5) * unit), (units + 0.5) * unit


def _rounded(units: Tensor) -> Tensor:
    return (units + 0.5).floor().nan_to_num(_LOWEST, -_LOWEST, _LOWEST).clamp(_LOWEST, -_LOWEST)


def chosen(tokens: Tensor, lengths: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens of some texts, and how many each has."""
    lengths_of = lengths[texts]
    starts = (lengths.cumsum(0) - lengths)[texts]
    before = lengths_of.cumsum(0) - lengths_of
    within = torch.arange(int(lengths_of.sum())) - before.repeat_interleave(lengths_of)
    return tokens[starts.repeat_interleave(lengths_of) + within], lengths_of


def _scale(queries: Tensor, documents: Tensor) -> float:
    """The norm of all queries if documents are of length 1, so that the products are cosines; else 1."""
    asked, found = _norms(queries), _norms(documents)
    if not len(asked) or not len(found) or ((found - 1).abs() > _ROUNDING).any():
        return 1.0
    scale = float(asked.mean())
    return scale if scale > 0 and ((asked / scale - 1).abs() < _ROUNDING).all() else 1.0


def _norms(vectors: Tensor) -> Tensor:
    """Euclidean norms in float64; 0 for a vector that is not finite, whose scores are not either."""
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=1, dtype=torch.float64)
    return norms.nan_to_num(0, 0, 0)


class _Keys:
    """Integers in the order of the ranking: larger for a higher score, and for an earlier document of the same score.

    Args:
        largest: for each query what no score exceeds.
    """

    def __init__(self, largest: Tensor) -> None:
        # A power of 2, so that scores like 0 and 1/2 are rounded to themselves and not away from them.
        self.unit = 2.0 ** largest.clamp(min=1e-30, max=1e30).log2().ceil() / _UNITS

    def of(self, scores: Tensor, queries: Tensor, documents: Tensor) -> Tensor:
        return (_rounded(scores / self.unit[queries]).long() << 32) + (_LAST - documents)

    def scores(self, keys: Tensor) -> Tensor:
        """The scores of the keys of all queries, `(queries, any)`."""
        units = (keys >> 32).double()
        return torch.where(units == _LOWEST, -torch.inf, units * self.unit[:, None])


def _proposed(scores: VectorScores, k: int, keys: _Keys) -> tuple[Tensor, Tensor]:
    """The keys of the k best documents of each query among those that faiss finds, and whether no other can be among them."""
    faiss: Any = importlib.import_module("faiss")
    queries, documents = (scores.made(each).float().contiguous() for each in (scores.queries, scores.documents))
    if not (queries.isfinite().all() and documents.isfinite().all()):
        return torch.empty(len(queries), k, dtype=torch.int64), torch.zeros(len(queries), dtype=torch.bool)
    index = faiss.IndexFlatIP(documents.shape[1])
    index.add(documents.numpy())
    asked = min(k + _SPARE, len(documents))
    # A sum of products of float32 numbers is wrong by no more than this, each number being rounded before.
    error = (documents.shape[1] + 4) * 2.0**-23 * _norms(queries) * _norms(documents).max() + keys.unit
    found, certain = [], []
    lengths = (
        _norms(scores.documents) if scores.similarity == "cos" else torch.ones(len(documents), dtype=torch.float64)
    )
    lengths = lengths.where(lengths > 0, 1)
    for rows in _slices(len(queries), max(1, 4 * _BLOCK // (asked * documents.shape[1]))):
        values, numbers = map(torch.from_numpy, index.search(queries[rows].numpy(), asked))
        products = scores.documents[numbers].double() @ scores.made(scores.queries[rows])[:, :, None]
        exact = products.squeeze(2) / lengths[numbers]
        best = keys.of(exact, torch.arange(rows.start, rows.stop)[:, None], numbers).topk(k).values
        last = (best[:, -1] >> 32) * keys.unit[rows]
        found.append(best)
        certain.append((last > values[:, -1] + error[rows]) | (asked == len(documents)))
    return torch.cat(found), torch.cat(certain)
