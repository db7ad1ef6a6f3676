"""Queries and candidates as model inputs, in the form in which a model reads them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdspec.api.working.pieces import Pieces
from kdspec.api.working.task import Reader, Row
from kdspec.data import texts
from kdspec.data.ranking.in_batch import KnownPositives, id_targets
from kdspec.data.ranking.ranked_rows import QueryRow
from kdspec.data.ranking.ranking_pieces import PairPieces, TextPieces
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import Tensor

SIDES = ("query", "document")
"""The fields of a batch of the form `each`."""
IGNORE = -100
"""The label of a row without a positive."""
_NONE = -1
"""In place of the number of a candidate: there is none."""


@dataclass(frozen=True)
class RowLength:
    """The number of tokens of a row with its padding, which are not one list."""

    tokens: int

    def __len__(self) -> int:
        return self.tokens


@dataclass(frozen=True)
class Limits:
    """The numbers of tokens to which texts are truncated; None for the tokenizer's limit."""

    query: int | None = None
    document: int | None = None
    pair: int | None = None


class RankingInputs:
    """Encodes rows for readers of each form, and makes batches of them.

    `pair`: the tokens of a query with each of its candidates. `each`: the tokens of queries and documents alone, with the
    prompts `query` and `document` of the model before them; every text is tokenised once and stands in a batch once. `scores`: the recorded scores, for a model without tokens.

    Args:
        limits: of the texts.
        in_batch: whether the documents of other rows are negatives: batches of the form `each` then have the targets `IDS`.
    """

    def __init__(self, limits: Limits, *, in_batch: bool = False) -> None:
        self.limits, self._in_batch = limits, in_batch
        self._texts: dict[str, dict[str, int]] = {side: {} for side in SIDES}
        self._tokens: dict[tuple[Reader, str], dict[int, Mapping[str, list[int]]]] = {}

    def encode(self, rows: Sequence[QueryRow], split: str, reader: Reader) -> list[dict[str, Any]]:
        """The rows with their labels: `labels`, the place of the first positive, and `positives`, those of all.

        Raises:
            Fault: KD503 for a missing tokenizer, KD502 for a limit that is too low and for a row without recorded scores.
        """
        made = {"each": self._each, "scores": self._recorded}.get(reader.form, self._pairs)(rows, split, reader)
        for row, given in zip(rows, made, strict=True):
            given["labels"] = row.positives[0] if row.positives else IGNORE
            given["positives"] = list(row.positives)
            given["candidates"] = len(row.documents)
        if self._in_batch and reader.form == "each":
            known = KnownPositives(rows)
            for row, given in zip(rows, made, strict=True):
                given.update(known.ids(row))
        return made

    def collate(self, rows: Sequence[Row], reader: Reader) -> dict[str, dict[str, Tensor]]:
        """The inputs of a batch by field."""
        import torch

        most = max(row["candidates"] for row in rows)
        if reader.form == "scores":
            given = [[*row["scores"], *[math.nan] * (most - row["candidates"])] for row in rows]
            return {"": {"scores": torch.tensor(given)}}
        if reader.form != "each":
            pairs = [pair for row in rows for pair in _parts(row)]
            ends = iter(range(len(pairs)))
            numbers = [[next(ends) for _ in range(row["candidates"])] for row in rows]
            return {"": {**texts.collate(pairs, reader.tokenizer), "candidates": _padded(numbers, most)}}
        fields, places = {}, {}
        for side in SIDES:
            named = dict.fromkeys(number for row in rows for number in row[side])
            places[side] = {number: place for place, number in enumerate(named)}
            table = self._tokens[reader, side]
            fields[side] = texts.collate([table[number] for number in named], reader.tokenizer)
        documents = [[places["document"][number] for number in row["document"]] for row in rows]
        queries = torch.tensor([places["query"][row["query"][0]] for row in rows])
        return {**fields, "": {"queries": queries, "candidates": _padded(documents, most)}}

    def pieces(self, rows: Sequence[Row], reader: Reader) -> Pieces | None:
        """What a model of this form answers one by one; None for recorded scores."""
        if reader.form == "scores":
            return None
        if reader.form != "each":
            return PairPieces(rows, _parts, reader.tokenizer)
        return TextPieces(rows, {side: self._tokens[reader, side] for side in SIDES}, reader.tokenizer)

    def _pairs(self, rows: Sequence[QueryRow], split: str, reader: Reader) -> list[dict[str, Any]]:
        """The tokens of all pairs of a row one after another, and the number of each pair."""
        del split
        longest = texts.limit(texts.present(reader.tokenizer), self.limits.pair, pair=True)
        columns = [[row.query for row in rows for _ in row.documents], [text for row in rows for text in row.documents]]
        encoded = iter(texts.encode(columns, reader.tokenizer, longest))
        made = []
        for row in rows:
            pairs = [next(encoded) for _ in row.documents]
            lengths = [len(pair["input_ids"]) for pair in pairs]
            joined = {key: [number for pair in pairs for number in pair[key]] for key in pairs[0]}
            made.append({**joined, "lengths": lengths, "length": RowLength(len(lengths) * max(lengths))})
        return made

    def _each(self, rows: Sequence[QueryRow], split: str, reader: Reader) -> list[dict[str, Any]]:
        """The numbers of the query and of the documents; their tokens are kept by these."""
        del split
        queries = self._numbered([row.query for row in rows], "query", reader)
        documents = self._numbered([text for row in rows for text in row.documents], "document", reader)
        asked, answers = (self._tokens[reader, side] for side in SIDES)
        made, start = [], 0
        for query, row in zip(queries, rows, strict=True):
            numbers = documents[start : start + len(row.documents)]
            start += len(numbers)
            longest = max(len(answers[number]["input_ids"]) for number in numbers)
            size = len(asked[query]["input_ids"]) + len(numbers) * longest
            made.append({"query": [query], "document": numbers, "length": RowLength(size)})
        return made

    def _numbered(self, given: Sequence[str], side: str, reader: Reader) -> list[int]:
        """The number of each text; texts without tokens for the reader get them."""
        numbers = self._texts[side]
        found = [numbers.setdefault(text, len(numbers)) for text in given]
        tokens = self._tokens.setdefault((reader, side), {})
        missing = {number: text for number, text in zip(found, given, strict=True) if number not in tokens}
        own = self.limits.query if side == "query" else self.limits.document
        longest = texts.limit(texts.present(reader.tokenizer), own)
        if missing:
            prompt = reader.prompts.get(side, "")
            written = [prompt + text for text in missing.values()]
            tokens.update(zip(missing, texts.encode([written], reader.tokenizer, longest), strict=True))
        return found

    def _recorded(self, rows: Sequence[QueryRow], split: str, reader: Reader) -> list[dict[str, Any]]:
        """The scores of each row, NaN for a row without any."""
        del reader
        if split == "train" and all(row.scores is None for row in rows):
            message = "no row of `train` has scores, and a model of the stage reads them"
            raise Fault("KD502", message, ("scores",), help="name their column in `scores`")
        return [
            {
                "scores": [math.nan] * len(row.documents) if row.scores is None else list(row.scores),
                "answered": row.scores is not None,
                "length": RowLength(len(row.documents)),
            }
            for row in rows
        ]


def targets(rows: Sequence[Row]) -> dict[str, Tensor]:
    """`labels`, `(rows,)`, the place of the first positive; `candidates_mask` and `positives`, `(rows, n)`; and ids of texts.

    `answered`, `(rows,)`, is 0 for a row without the recorded scores that are its inputs.
    """
    import torch

    most = max(row["candidates"] for row in rows)
    there = torch.arange(most) < torch.tensor([row["candidates"] for row in rows])[:, None]
    positives = torch.zeros(len(rows), most, dtype=torch.bool)
    for number, row in enumerate(rows):
        positives[number, row["positives"]] = True
    labels = torch.tensor([row["labels"] for row in rows])
    ids = id_targets(rows) if "document_ids" in rows[0] else {}
    answered = torch.tensor([row.get("answered", True) for row in rows])
    made = {"candidates_mask": there, "positives": positives, "answered": answered}
    return {"labels": labels, **{name: each.long() for name, each in made.items()}, **ids}


def _parts(row: Row) -> Iterable[dict[str, list[int]]]:
    """The pairs of a row, each with its own tokens."""
    start = 0
    keys = [key for key in ("input_ids", "token_type_ids") if key in row]
    for length in row["lengths"]:
        yield {key: row[key][start : start + length] for key in keys}
        start += length


def _padded(numbers: Sequence[Sequence[int]], most: int) -> Tensor:
    import torch

    return torch.tensor([[*row, *[_NONE] * (most - len(row))] for row in numbers])
