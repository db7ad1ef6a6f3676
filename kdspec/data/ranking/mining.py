"""Hard negatives: documents that a model of the spec finds for a query, and that are not its positives."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from kdspec.api.component import Strict, invalid_value
from kdspec.api.kinds.context import FrozenModels, TaskContext
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator, State
from kdspec.api.working.task import BuiltTask, Head, Reader, Row
from kdspec.data.cache_folder import cache_folder, put
from kdspec.data.files.retrieval_files import SpecTable, read_documents
from kdspec.data.ranking.in_batch import VECTORS
from kdspec.data.ranking.ranked_rows import QueryRow
from kdspec.data.ranking.ranking_inputs import RankingInputs, targets
from kdspec.data.ranking.searched_texts import SearchedTexts
from kdspec.diagnostics.fault import Fault
from kdspec.source import read_back
from kdspec.source.read_back import Count, Damage, Form

if TYPE_CHECKING:
    from kdspec.api.working.step import Features

FOLDER, SUFFIX = "mined", ".json"
"""Subfolder of the cache folder, and how the names of its files end."""
_FORMAT = 1
_AT = ("mine",)
"""The path of the settings among the parameters of the task."""
_MOST_BYTES = 2**30
_MOST_KEPT = 2 * _MOST_BYTES
"""Total size of the files; the least recently used ones are deleted."""
_MOST = 1000
_SPLIT = "validation"


class Mine(Strict):
    """Hard negatives for training rows with a positive and fewer than `negatives` of them.

    The model compares the query with all documents. Of the best `candidates`, the positives of the query (those of all rows with
    the same query) are passed over, and so are documents whose score is above that of its lowest positive minus `margin`: they
    are likely to be relevant. The next `negatives` are added to the row. The result is kept in the cache folder, by the content
    of model, texts and settings.
    """

    model: str
    """A model of the spec that reads texts alone (`reads: each`), with weights from files: no stage trains it."""
    candidates: int = Field(default=30, ge=1, le=_MOST)
    """Number of documents that are looked at for each query."""
    margin: float = Field(default=0.0, ge=0, le=1000)
    """How far a negative's score is below that of the positive at least. Cosines, and the sums of cosines of late interaction,
    are compared without the `scale` of the model; dot products as they are."""
    negatives: int = Field(default=5, ge=1, le=_MOST)
    """Number of negatives that a row has then, if so many are found."""
    corpus: SpecTable | None = None
    """A file of the documents that are searched, as in `retrieve`. Default: that of the task, or all documents of the training
    rows."""

    @model_validator(mode="after")
    def _as_many_candidates(self) -> Self:
        if self.negatives > self.candidates:
            message = f"{self.negatives} negatives cannot be found among {self.candidates} candidates"
            raise invalid_value(message, "negatives")
        return self


@dataclass(frozen=True)
class _Kept:
    """What is kept of a search: for each row the numbers of its new negatives, and how many documents were passed over."""

    checksum: str
    negatives: list[list[Count]]
    passed_over: Count


_KEPT: Form[_Kept] = Form(_Kept)


def with_negatives(
    rows: Sequence[QueryRow],
    settings: Mine,
    inputs: RankingInputs,
    context: TaskContext,
    documents: Sequence[str] | None = None,
) -> list[QueryRow]:
    """The rows with mined negatives.

    Args:
        rows: those of `train`.
        settings: of the spec.
        inputs: encode texts as the task does.
        context: with the models of the spec.
        documents: those that the task reads by id, which are searched if the settings name no corpus.

    Raises:
        Fault: KD502 for a corpus that cannot be read, KD312 if no row has a positive.
    """
    models = context.frozen
    if models is None:
        return list(rows)
    asked = [number for number, row in enumerate(rows) if _lacking(row, settings)]
    if not asked:
        if not any(row.positives for row in rows):
            raise Fault("KD312", "no row of `train` has a positive, so that nothing can be mined", _AT)
        return list(rows)
    corpus = list(dict.fromkeys(_corpus(rows, settings, context, documents)))
    positives = _positives(rows)
    search = _Search([rows[number] for number in asked], corpus, positives, settings)
    key = search.key(models.digest(settings.model), f"{inputs.limits}")
    # Of several processes that of the first one counts, so that all have the same rows.
    kept = _KEPT.of(models.agreed(asdict(_kept(key, lambda: search.run(models, inputs), len(asked), len(corpus)))))
    made = list(rows)
    for number, found in zip(asked, kept.negatives, strict=True):
        row = rows[number]
        made[number] = replace(row, documents=(*row.documents, *(corpus[each] for each in found)), scores=None)
    _report([made[number] for number in asked], kept, settings, context)
    return made


def _lacking(row: QueryRow, settings: Mine) -> int:
    """How many negatives a row lacks; 0 for one without a positive."""
    return max(0, settings.negatives - (len(row.documents) - len(row.positives))) if row.positives else 0


def _corpus(
    rows: Sequence[QueryRow], settings: Mine, context: TaskContext, documents: Sequence[str] | None
) -> Sequence[str]:
    if settings.corpus is not None:
        return list(read_documents(settings.corpus, context.folder, (*_AT, "corpus")).values())
    return [text for row in rows for text in row.documents] if documents is None else documents


def _positives(rows: Sequence[QueryRow]) -> Mapping[str, frozenset[str]]:
    """The positives of each query, of all its rows."""
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.query, set()).update(row.documents[place] for place in row.positives)
    return {query: frozenset(texts) for query, texts in found.items()}


@dataclass(frozen=True)
class _Search:
    """A search for the negatives of some rows."""

    rows: Sequence[QueryRow]
    corpus: Sequence[str]
    positives: Mapping[str, frozenset[str]]
    settings: Mine

    def key(self, model: str, limits: str) -> str:
        """A checksum of all that the result depends on."""
        about = [_FORMAT, model, limits, self.settings.model_dump(exclude={"model", "corpus"})]
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        rows = ([row.query, *row.documents, *sorted(self.positives[row.query])] for row in self.rows)
        for texts in (self.corpus, *rows):
            digest.update(json.dumps([len(texts), *texts]).encode())
        return digest.hexdigest()

    def run(self, models: FrozenModels, inputs: RankingInputs) -> _Kept:
        """Search, and pass over what may be relevant."""
        import torch

        from kdspec.ops.retrieval.exact_search import search

        of_rows = [sorted(self.positives[row.query]) for row in self.rows]
        texts = SearchedTexts(
            [row.query for row in self.rows], [*self.corpus, *(text for each in of_rows for text in each)]
        )
        scores = texts.scores(models.states(self.settings.model, _TextRows(texts, inputs)))
        assert scores is not None, "the evaluation has given a vector for each text"
        scores = scores.without_scale()
        queries = {text: number for number, text in enumerate(texts.queries)}
        documents = {text: number for number, text in enumerate(texts.documents)}
        values, found = search(scores, self.settings.candidates)
        own = [
            (queries[row.query], documents[text]) for row, each in zip(self.rows, of_rows, strict=True) for text in each
        ]
        of_positives = iter(scores.pairs(*torch.tensor(own).T).tolist())
        limits = [min(next(of_positives) for _ in each) - self.settings.margin for each in of_rows]
        negatives, passed_over = [], 0
        for row, limit in zip(self.rows, limits, strict=True):
            query = queries[row.query]
            known = {*row.documents, *self.positives[row.query]}
            chosen: list[int] = []
            for value, number in zip(values[query].tolist(), found[query].tolist(), strict=True):
                if number >= len(self.corpus) or texts.documents[number] in known:
                    continue
                # The scores of the search are rounded.
                if not value < limit - 1e-7 * max(1.0, abs(limit)):
                    passed_over += 1
                elif len(chosen) < _lacking(row, self.settings):
                    chosen.append(number)
            negatives.append(chosen)
        return _Kept(_checksum(negatives), negatives, passed_over)


class _TextRows(BuiltTask):
    """Texts as rows, for a model that gives a vector for each."""

    length_key = "length"
    head = Head(kind="ranking")

    def __init__(self, texts: SearchedTexts, inputs: RankingInputs) -> None:
        self._texts, self._inputs = texts, inputs

    def rows(self, split: str) -> int:
        return len(self._texts) if split == _SPLIT else 0

    def encode(self, split: str, readers: Sequence[Reader]) -> list[list[dict[str, Any]]]:
        return [self._inputs.encode(self._texts.rows(reader.form), split, reader) for reader in readers]

    def collate(self, rows: Sequence[Row], reader: Reader) -> Batch:
        return Batch(inputs=self._inputs.collate(rows, reader), targets=targets(rows))

    def evaluator(self, split: str) -> Evaluator:
        del split
        return _TextVectors(self._texts)


class _TextVectors(Evaluator):
    """Keeps the vectors."""

    reads = frozenset(VECTORS)
    optional = frozenset[str]()

    def __init__(self, texts: SearchedTexts) -> None:
        self._texts = texts

    def add(self, features: Features, batch: Batch) -> State:
        return self._texts.state(features, batch, 0)

    def merge(self, states: Sequence[State]) -> Mapping[str, float]:
        del states
        return {}


def _report(rows: Sequence[QueryRow], kept: _Kept, settings: Mine, context: TaskContext) -> None:
    """Tell how many negatives were found, or that there are none."""
    found = sum(map(len, kept.negatives))
    if not found:
        message = f"`{settings.model}` finds no negative: {kept.passed_over} of the candidates are within the margin of a positive"
        raise Fault("KD502", message, _AT, help="lower `margin`, raise `candidates`, or name a larger `corpus`")
    fewer = sum(_lacking(row, settings) > 0 for row in rows)
    message = f"`{settings.model}` has found {_counted(found, 'negative')} for {_counted(len(rows), 'row')} of `train`"
    details = (
        [f"{_counted(fewer, 'row')} {'has' if fewer == 1 else 'have'} fewer than {settings.negatives}"] if fewer else []
    )
    if kept.passed_over:
        close = _counted(kept.passed_over, "candidate")
        details.append(f"{close} too close to a positive {'was' if kept.passed_over == 1 else 'were'} left out")
    help_ = "lower `margin` or raise `candidates` for more" if fewer else None
    context.tell(Fault("KD316", "; ".join([message, *details]), _AT, help=help_, severity="note"))


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _kept(key: str, make: Callable[[], _Kept], rows: int, documents: int) -> _Kept:
    """The result of a search, from the cache if it has it; if the disk fails it is made and not kept."""
    file = cache_folder() / FOLDER / f"{key}{SUFFIX}"
    with contextlib.suppress(OSError, Damage):
        found = read_back.read(file, _KEPT, most=_MOST_BYTES)
        numbers = [number for row in found.negatives for number in row]
        if (
            found.checksum == _checksum(found.negatives)
            and len(found.negatives) == rows
            and max(numbers, default=0) < documents
        ):
            return found
    made = make()
    with contextlib.suppress(OSError):
        put(file, json.dumps(asdict(made)).encode(), _MOST_KEPT)
    return made


def _checksum(negatives: Sequence[Sequence[int]]) -> str:
    return hashlib.sha256(json.dumps(negatives).encode()).hexdigest()
