"""A plugin with a task of queries and their documents, and a model that answers texts or pairs of them one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from kdspec import (
    Batch,
    BuiltTask,
    Component,
    Head,
    Model,
    ModelContext,
    Pieces,
    Reader,
    Task,
    TaskContext,
    hookimpl,
)

VOCABULARY, WIDTH = 23, 5
Tokens = Sequence[int]


def tokens(number: int) -> list[int]:
    """The tokens of a text."""
    return [1 + (number * 7 + at * 3) % (VOCABULARY - 1) for at in range(2 + number % 5)]


def padded(texts: Sequence[Tokens]) -> dict[str, Any]:
    import torch

    most = max(map(len, texts))
    ids = torch.tensor([[*text, *[0] * (most - len(text))] for text in texts])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


class Texts(Pieces):
    def __init__(self, texts: Sequence[Tokens], of_rows: Sequence[Sequence[int]]) -> None:
        self.texts, self.of_rows = texts, of_rows

    @property
    def lengths(self) -> Sequence[int]:
        return [len(text) for text in self.texts]

    def of(self, rows: Sequence[int]) -> Sequence[int]:
        queries, documents = zip(*((of[0], of[1:]) for of in (self.of_rows[row] for row in rows)), strict=True)
        return [*dict.fromkeys(queries), *dict.fromkeys(each for of in documents for each in of)]

    def batch(self, pieces: Sequence[int]) -> Batch:
        return Batch(inputs={"": padded([self.texts[piece] for piece in pieces])})


class Pairs(Texts):
    def of(self, rows: Sequence[int]) -> Sequence[int]:
        return [pair for row in rows for pair in self.of_rows[row]]


class Asked(BuiltTask):
    head = Head(kind="scores")
    length_key = "length"

    def __init__(self, numbers: Sequence[Sequence[int]]) -> None:
        self.numbers = numbers

    def rows(self, split: str) -> int:
        return len(self.numbers) if split == "train" else 0

    def encode(self, split: str, readers: Sequence[Reader]) -> Sequence[Sequence[Mapping[str, Any]]]:
        rows = [
            {"query": [of[0]], "documents": of[1:], "length": list(range(sum(len(tokens(each)) for each in of)))}
            for of in self.numbers
        ]
        return [rows for _ in readers]

    def pieces(self, rows: Sequence[Mapping[str, Any]], reader: Reader) -> Pieces:
        if reader.form == "pair":
            pairs = [[(*tokens(row["query"][0]), *tokens(each)) for each in row["documents"]] for row in rows]
            ends = iter(range(sum(map(len, pairs))))
            return Pairs([pair for of in pairs for pair in of], [[next(ends) for _ in of] for of in pairs])
        most = 1 + max(number for row in rows for number in (row["query"][0], *row["documents"]))
        return Texts([tokens(number) for number in range(most)], [[*row["query"], *row["documents"]] for row in rows])

    def collate(self, rows: Sequence[Mapping[str, Any]], reader: Reader) -> Batch:
        import torch

        most = max(len(row["documents"]) for row in rows)

        def numbered(of: Sequence[Sequence[int]]) -> Any:
            return torch.tensor([[*each, *[-1] * (most - len(each))] for each in of])

        if reader.form == "pair":
            pairs = [(*tokens(row["query"][0]), *tokens(each)) for row in rows for each in row["documents"]]
            ends = iter(range(len(pairs)))
            candidates = numbered([[next(ends) for _ in row["documents"]] for row in rows])
            inputs = {"": {**padded(pairs), "candidates": candidates}}
        else:
            queries = list(dict.fromkeys(row["query"][0] for row in rows))
            documents = list(dict.fromkeys(each for row in rows for each in row["documents"]))
            candidates = numbered([[documents.index(each) for each in row["documents"]] for row in rows])
            own = {"queries": torch.tensor([queries.index(row["query"][0]) for row in rows]), "candidates": candidates}
            named = {"query": queries, "document": documents}
            inputs = {**{name: padded([*map(tokens, of)]) for name, of in named.items()}, "": own}
        targets = {"candidates_mask": (candidates >= 0).long(), "labels": torch.zeros(len(rows), dtype=torch.long)}
        return Batch(inputs=inputs, targets=targets)


class AskedTask(Task):
    """Forty queries with up to four documents each, of which one is named by twenty."""

    name = "asked"
    head = "scores"
    scope = "position"
    logits = "classes"
    count: int = 40
    """Number of rows."""

    def adaptor(self) -> Mapping[str, str | list[str]]:
        return {"logits": "output.logits", "logits_mask": "batch.candidates_mask"}

    def has_labels(self) -> bool:
        return False

    def without_rows(self) -> BuiltTask:
        return Asked([])

    def build(self, context: TaskContext) -> BuiltTask:
        # Queries 10 to 49; document 0 in every second row, the others in few.
        rows = range(self.count)
        return Asked([[10 + row, *[0][row % 2 :], *(1 + (row + at) % 9 for at in range(1 + row % 3))] for row in rows])


class Tower(Model):
    """The mean of token vectors; its scores are dot products of texts, of their tokens, or of a pair with a vector."""

    name = "tower"
    scope = "row"
    reads: Literal["pair", "each", "tokens"] = "each"
    """What it answers: pairs, texts, or the tokens of texts."""
    whole: bool = False
    """Whether it answers rows only as a whole."""

    def form(self, context: ModelContext) -> str:
        return "pair" if self.reads == "pair" else "each"

    def can_learn(self, head: str | None) -> bool:
        return True

    def build(self, context: ModelContext) -> Any:
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sum(context.name.encode()))
            kind = module()
            if self.whole:
                del kind.put_together
            return kind(self.reads)


def module() -> Any:
    """The class of the module."""
    import torch
    from torch import Tensor, nn

    from kdspec.ops.ranking.text_scores import candidate_scores

    class TowerModule(nn.Module):
        def __init__(self, reads: str) -> None:
            super().__init__()
            self.reads = reads
            self.embeddings = nn.Embedding(VOCABULARY, WIDTH)
            self.inner, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)

        def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            states = torch.tanh(self.inner(self.embeddings(input_ids))) * attention_mask[..., None]
            if self.reads == "tokens":
                return states
            pooled = states.sum(1) / attention_mask.sum(1, keepdim=True)
            return self.out(pooled)[:, 0] if self.reads == "pair" else pooled

        def forward(
            self, input_ids: Any = None, attention_mask: Any = None, query: Any = None, document: Any = None,
            queries: Any = None, candidates: Any = None,
        ) -> dict[str, Any]:  # fmt: skip
            if input_ids is not None:
                answers = self.encode(input_ids, attention_mask)
                if candidates is None:
                    return {"answers": answers}
                return {"logits": answers[candidates.clamp(min=0)]}
            asked, found = self.encode(**query), self.encode(**document)
            masks = query["attention_mask"], document["attention_mask"]
            scores = self.compared(asked, found, queries, candidates, masks)
            return {**scores, "twice": 2 * scores["logits"]}

        def put_together(self, answers: Tensor, mask: Any, *, candidates: Tensor, **inputs: Any) -> dict[str, Any]:
            if self.reads == "pair":
                return {"logits": answers[candidates.clamp(min=0)]}
            count = len(inputs["query"]["input_ids"])
            masks = None if mask is None else (mask[:count], mask[count:])
            return self.compared(answers[:count], answers[count:], inputs["queries"], candidates, masks)

        def compared(
            self, asked: Tensor, found: Tensor, queries: Tensor, candidates: Tensor, masks: Any
        ) -> dict[str, Any]:
            similarity: Any = "maxsim" if self.reads == "tokens" else "dot"
            return {"logits": candidate_scores(asked, found, queries, candidates, similarity, masks=masks)}

    return TowerModule


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The task and its model."""
    return [AskedTask, Tower]
