"""In-batch negatives: the documents of other rows, and which of them are no negatives of a query."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from kdspec.api.kinds.context import Input
from kdspec.api.working.batch import Batch
from kdspec.api.working.step import Features, View
from kdspec.api.working.task import Row
from kdspec.data.ranking.ranked_rows import QueryRow

if TYPE_CHECKING:
    from torch import Tensor

    from kdspec.ops.mean import Mean

Negatives = Literal["none", "micro_batch", "step"]
"""Whose documents are negatives of a query: its own alone, or also those of the other rows of a micro-batch or a step."""
VECTORS = ("query_vectors", "document_vectors")
"""The features of a student that in-batch negatives are scored by: the products of these vectors are the scores."""
IDS = ("document_ids", "positive_ids", "known_ids")
"""The targets that tell texts apart, across micro-batches and processes."""


class KnownPositives:
    """All positives that the rows of a split have for each query, by checksum.

    Args:
        rows: the rows.
    """

    def __init__(self, rows: Iterable[QueryRow]) -> None:
        self._of: dict[str, dict[int, None]] = {}
        for row in rows:
            found = self._of.setdefault(row.query, {})
            found.update(dict.fromkeys(checksum(row.documents[place]) for place in row.positives))

    def ids(self, row: QueryRow) -> dict[str, list[int]]:
        """The checksums of a row: of its documents, of its positives, and of other known positives of its query."""
        documents = [checksum(text) for text in row.documents]
        known = [each for each in self._of[row.query] if each not in documents]
        return {
            "document_ids": documents,
            "positive_ids": [documents[place] for place in row.positives],
            "known_ids": known,
        }


def checksum(text: str) -> int:
    """A number above 0 in 63 bits that is the same wherever the text stands."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1 or 1


def id_targets(rows: Sequence[Row]) -> dict[str, Tensor]:
    """`document_ids`, `(documents,)`, of the distinct documents in their order; `positive_ids` and `known_ids` of each row."""
    import torch

    named = dict.fromkeys(number for row in rows for number in row["document_ids"])
    found = {"document_ids": torch.tensor(list(named))}
    for name in IDS[1:]:
        most = max(1, *(len(row[name]) for row in rows))
        found[name] = torch.tensor([[*row[name], *[0] * (most - len(row[name]))] for row in rows])
    return found


def view_of(features: Features, batch: Batch) -> View:
    """What the loss across rows compares: the vectors of each row's query and of the distinct documents, and their ids."""
    query, document = (features.heads(name)[0] for name in VECTORS)
    asked = query[batch.inputs[""]["queries"]]
    ids = tuple(batch.targets[name] for name in IDS)
    mask = batch.inputs["document"]["attention_mask"] if document.ndim > 2 else None
    return View((asked, document), ids, mask)


def loss_across(view: View) -> Mapping[str, Mean]:
    """The cross-entropy of each row's positives among its candidates and the documents of the other rows."""
    from kdspec.ops.ranking.label_losses import cross_entropy_in_batch, scores_between

    query, document = view.student
    documents, positives, known = view.teacher
    scores = scores_between(query, document, view.mask)
    return {"labels": cross_entropy_in_batch(scores, documents, positives, known)}


def example_ids(rows: int, documents: int) -> dict[str, Input]:
    """The targets of a batch that is made up."""
    shapes = {"document_ids": (documents,), "positive_ids": (rows, 1), "known_ids": (rows, 1)}
    return {name: Input(shape, target=True) for name, shape in shapes.items()}
