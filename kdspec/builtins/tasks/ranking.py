"""The task `ranking`: the order of a query's candidates, by a score for each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from kdspec.api.component import Component, invalid_value
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext, ExampleContext, Input, TaskContext
from kdspec.api.kinds.kinds import Dataset, Task
from kdspec.api.kinds.losses import LogitKind, Scope
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator
from kdspec.api.working.pieces import Pieces
from kdspec.api.working.row_answers import RowAnswers
from kdspec.api.working.standalone import Standalone
from kdspec.api.working.task import BuiltTask, Head, Reader, Row
from kdspec.data import texts
from kdspec.data.answers.beside_teacher import AGREEMENT, AnswersBesideTeacher
from kdspec.data.answers.standalone_answers import of_compared, of_pairs
from kdspec.data.columns import ColumnPlace, missing, named
from kdspec.data.files.retrieval_files import RetrievalFiles, SpecTable, read_documents, read_queries
from kdspec.data.ranking.candidate_answers import CandidateAnswers
from kdspec.data.ranking.first_scores import recorded_scores
from kdspec.data.ranking.in_batch import IDS, VECTORS, Negatives, loss_across, view_of
from kdspec.data.ranking.mining import Mine, with_negatives
from kdspec.data.ranking.ranked_rows import RankingColumns, RowReader, TextsById
from kdspec.data.ranking.ranking_examples import example, pairs_of
from kdspec.data.ranking.ranking_inputs import IGNORE, RankingInputs, targets
from kdspec.data.ranking.ranking_metrics import NAMES, CandidateMetrics
from kdspec.data.ranking.searched_texts import SEARCH_NAMES, CorpusSearch, SearchMetrics
from kdspec.data.ranking.text_limits import MaxLength, TextLimits, limits_of
from kdspec.diagnostics.fault import Fault
from kdspec.hf.embedding.readout_facts import comparison_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kdspec.api.working.step import Features, View
    from kdspec.ops.mean import Mean, Unit

RETRIEVE = "retrieve"
"""The first part of the names of the metrics of the search."""


_FEW = 32
"""Rows whose candidates are counted before a run."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Columns = Annotated[list[str], Field(min_length=1), BeforeValidator(_listed, json_schema_input_type=str | list[str])]
"""One column, or several."""


class Ranking(Task):
    """The order of a query's candidates: a model gives each a score, and the scores of a row are its logits.

    Candidates are given by columns, each with one text or a list of texts; rows may have different numbers of them. A text
    that stands among a row's candidates twice is one candidate.

    Hard labels: the cross-entropy of each positive among the negatives of its row; several positives of a row are not
    negatives of one another, and the row's loss is the mean over them. Metrics count the rows with a positive and another
    candidate. A row without positives, and every row of the split `unlabelled`, has no label. A model that reads each text alone has its
    prompts `query` and `document` before them, if it has these.
    """

    name = "ranking"
    scope = "position"
    head: ClassVar[str | None] = "ranking"
    measured_beside: ClassVar[bool] = True
    length_limit: ClassVar[str | None] = "max_length"
    logits: ClassVar[LogitKind | None] = "scores"

    data: Dataset
    """The rows."""
    query: str = "query"
    """The column of the queries."""
    documents: Columns
    """The column of the candidates, or several: `[positive, negatives]`. A cell is a text or a list of texts; a list may be
    written as a text."""
    scores: Annotated[list[str], BeforeValidator(_listed, json_schema_input_type=str | list[str])] = []
    """The column of recorded scores, one for each candidate, or a column for each of `documents`:
    `[pos_scores, neg_scores]`."""
    margins: str | None = None
    """In place of `scores`: the column of the first candidate's score minus that of each other one, a number or a list."""
    positives: str | None = None
    """The positives of each row: one of the columns in `documents`, or a column with some of its candidates. Default: no
    labels; the student learns from a teacher only."""
    queries: SpecTable | None = None
    """A file with the texts of queries by id, where `query` has ids: JSON Lines, CSV or TSV with `_id` (or `id`, `query_id`,
    `qid`) and `text` (or `query`), or TSV of ids and texts without a header."""
    corpus: SpecTable | None = None
    """A file with the texts of documents by id, where `documents` and `positives` have ids: as `queries`, with `text` (or `document`, `passage`)
    and perhaps `title`."""
    negatives: Negatives = "none"
    """Further negatives of the hard labels, for students that read each text alone; one that reads pairs has those of the row: `micro_batch` for the documents of its
    other rows, `step` for those of all rows of the optimizer step. Not one with the same text as a positive, or that another
    row has as a positive of the same query."""
    without_text: texts.WithoutText = "error"
    """For a row without a query or a candidate, and for a candidate without a text: an error, or `leave_out`, which reports
    their number."""
    retrieve: RetrievalFiles | None = None
    """A corpus that models with `reads: each` search for each of some queries: the metrics `retrieve.ndcg@10`, `retrieve.mrr@10`,
    `retrieve.recall@100` and `retrieve.map`. A model that reads pairs ranks only the candidates of the rows."""
    mine: Mine | None = None
    """Hard negatives for training rows that have too few, found by a model of the spec."""
    max_length: MaxLength | None = None
    """Number of tokens to which a text, or a pair of query and document, is truncated; or `{query: 32, document: 256}`, of
    which a pair has the sum. Default: the tokenizer's limit."""

    @field_validator("scores")
    @classmethod
    def _one_for_each(cls, scores: list[str], info: ValidationInfo) -> list[str]:
        documents = info.data.get("documents")
        if documents is not None and len(scores) not in (0, 1, len(documents)):
            message = "{scores} columns of scores for {documents} of documents: write one for each, or one for all"
            counts = {"scores": len(scores), "documents": len(documents)}
            raise PydanticCustomError("wrong_value", message, counts)
        return scores

    @field_validator("margins")
    @classmethod
    def _in_place_of_scores(cls, margins: str | None, info: ValidationInfo) -> str | None:
        if margins is not None and info.data.get("scores"):
            raise PydanticCustomError("wrong_value", "`scores` and `margins` say the same: write one of them")
        return margins

    @model_validator(mode="after")
    def _mines_for_positives(self) -> Self:
        if self.mine is not None and self.positives is None:
            message = "negatives are mined for rows with a positive: name the column of the positives in `positives`"
            raise invalid_value(message, "mine")
        if self.mine is not None and (self.scores or self.margins is not None):
            recorded = "scores" if self.scores else "margins"
            message = f"mined negatives have no recorded scores: leave out `{recorded}`, and let a teacher of the stage score them"
            raise invalid_value(message, "mine")
        return self

    def columns(self) -> RankingColumns:
        """The columns of the rows."""
        return RankingColumns(
            query=self.query, documents=self.documents, scores=self.scores, margins=self.margins,
            positives=self.positives, in_batch=self.negatives != "none",
        )  # fmt: skip

    def texts_by_id(self, context: BuildContext) -> dict[str, TextsById]:
        """The files with the texts of ids, read, by the parameters that name them."""
        found = {}
        if self.queries is not None:
            found["queries"] = TextsById(self.queries, read_queries(self.queries, context.folder, ("queries",)))
        if self.corpus is not None:
            found["corpus"] = TextsById(self.corpus, read_documents(self.corpus, context.folder, ("corpus",)))
        return found

    def adaptor(self) -> Mapping[str, str | list[str]]:
        """The field paths for a model with scores."""
        paths: dict[str, str | list[str]] = {
            "logits": "output.logits",
            "logits_mask": "batch.candidates_mask",
            "answered": "batch.answered",
            "embedding": "output.embedding",
            **{name: f"output.{name}" for name in VECTORS},
        }
        if self.positives is not None:
            paths["labels"] = "batch.labels"
        return paths

    def has_labels(self) -> bool:
        """Whether `positives` names a column."""
        return self.positives is not None

    def hard_scope(self, form: str) -> Scope:
        """That of `negatives`, for a student that reads each text alone."""
        return "position" if self.negatives == "none" or form != "each" else self.negatives

    def hard_features(self, form: str) -> Collection[str]:
        """The vectors of the texts, where other rows have negatives."""
        return () if self.negatives == "none" or form != "each" else VECTORS

    def label_columns(self) -> Mapping[ColumnPlace, str]:
        """That of `positives`."""
        return {} if self.positives is None else {("positives",): self.positives}

    def answer_columns(self) -> Collection[str]:
        """Those of `scores` or `margins`."""
        return tuple(self.columns().recorded().values())

    def with_answers(self, columns: Collection[str]) -> Self:
        """With these columns as `scores`."""
        return self.model_copy(update={"scores": list(columns)})

    def first_answers(self, context: BuildContext, rows: int) -> Sequence[Sequence[float]] | None:
        """The scores, or those that have the recorded margins."""
        return recorded_scores(self.columns(), self.data.first(context, rows))

    def metric_names(self) -> Collection[str]:
        """Those of the candidates, with labels or beside a teacher, and of the search."""
        return (*(NAMES if self.positives is not None else (AGREEMENT,)), *self.search_metrics())

    def search_metrics(self) -> Collection[str]:
        """Those of `retrieve`."""
        return () if self.retrieve is None else [f"{RETRIEVE}.{name}" for name in SEARCH_NAMES]

    def models_named(self) -> Mapping[ColumnPlace, str]:
        """The one that mines."""
        return {} if self.mine is None else {("mine", "model"): self.mine.model}

    def has_split(self, split: str) -> bool | None:
        """Whether there are rows, or a corpus to search."""
        return True if self.retrieve is not None and self.retrieve.has_split(split) else self.data.has_split(split)

    def selects_by(self) -> str:
        """The primary metric: of the candidates if they have labels, else of the search."""
        labelled = self.positives is not None and self.data.has_split("validation") is not False
        searched = self.retrieve is not None and self.retrieve.has_split("validation")
        return f"{RETRIEVE}.{SEARCH_NAMES[0]}" if searched and not labelled else NAMES[0]

    def example(self, context: ExampleContext, rows: int, longest: int | None) -> Mapping[str, Input]:
        """The inputs of the form, with as many candidates as the first rows have at most, or come to have by mining."""
        first, mined = self.data.first(context, _FEW), self.mine.negatives if self.mine is not None else 0
        return example(self.columns(), first, limits_of(self.max_length), context.form, rows, longest, mined=mined)

    def sample(self, context: BuildContext, rows: int) -> Sequence[Sequence[str]] | None:
        """Pairs of a query and a candidate; None if rows have ids, or the two texts have limits of their own."""
        if self.queries is not None or self.corpus is not None or isinstance(self.max_length, TextLimits):
            return None
        return pairs_of(self.columns(), self.data.first(context, rows))

    def to_predict(self, data: Dataset, labels: Sequence[str]) -> Self:
        """Without recorded scores, labels, mined negatives and a search."""
        del labels  # it has none
        none = dict.fromkeys(("margins", "positives", "retrieve", "mine"))
        return self.model_copy(
            update={"data": data, "scores": [], "negatives": "none", "without_text": "error", **none}
        )

    def without_rows(self) -> RankedRows:
        """All but the rows."""
        return RankedRows(self, {}, TaskContext())

    def check(self, context: BuildContext) -> Iterator[Fault]:
        """Whether the rows have the columns of the texts and of the scores."""
        if self.negatives != "none" and self.positives is None:
            message = "`negatives` is of hard labels, and the rows have no positives"
            yield Fault("KD305", message, ("negatives",), help="name their column in `positives`, or remove it")
        splits = texts.columns_of(self.data, context)
        yield from missing(splits, self.columns().inputs(), {}, named(self))
        train = {name: columns for name, columns in splits.items() if name == "train"}
        yield from missing(train, self.columns().recorded(), {}, named(self))

    def build(self, context: TaskContext) -> RankedRows:
        """Read the rows and check their candidates."""
        columns = self.columns()
        reads = (*columns.inputs().values(), *columns.recorded().values(), self.positives)
        splits = texts.splits_of(
            self.data, context, reads, inputs={("query",): self.query}, without_text=self.without_text
        )
        return RankedRows(self, splits, context)


class RankedRows(BuiltTask):
    """The built task; without rows if there are no splits."""

    length_key = "length"

    def __init__(self, task: Ranking, splits: Mapping[str, Any], context: TaskContext) -> None:
        self._task = task
        self.head = Head(kind=task.head)
        if splits and task.positives is not None and context.reads_labels:
            texts.check_column(splits["train"], "train", task.positives, ("positives",))
        by_id = task.texts_by_id(context) if splits else {}
        leave_out = task.without_text == "leave_out"
        columns = {split: task.columns() for split in splits}
        if task.mine is not None and "train" in splits:
            columns["train"] = replace(columns["train"], in_batch=True)  # a row with one candidate gets others
        self._rows = {
            split: RowReader(columns[split], rows, split, context.tell, leave_out=leave_out, **by_id).read()
            for split, rows in splits.items()
        }
        self._inputs = RankingInputs(limits_of(task.max_length), in_batch=task.negatives != "none")
        self.across_steps = task.negatives == "step"
        if task.mine is not None and "train" in splits:
            known = by_id.get("corpus")
            every = None if known is None else list(known.texts.values())
            self._rows["train"] = with_negatives(self._rows["train"], task.mine, self._inputs, context, every)
        found = {} if task.retrieve is None or not splits else task.retrieve.read(context.folder, (RETRIEVE,))
        self._search = {split: CorpusSearch(each) for split, each in found.items()}

    def rows(self, split: str) -> int:
        """Number of queries of the split; where a corpus is searched its texts follow."""
        search = self._search.get(split)
        return len(self._rows.get(split, ())) + (0 if search is None else len(search.texts))

    def labelled(self, split: str) -> int:
        """Number of queries that the metrics count: those with a positive and another candidate, and those of the search."""
        searched = len(self._search[split].queries) if split in self._search else 0
        return sum(row.ranks for row in self._rows.get(split, ())) + searched

    def encode(self, split: str, readers: Sequence[Reader]) -> list[list[dict[str, Any]]]:
        """The tokens of each row, or the numbers of its texts, with the places of its positives."""
        search = self._search.get(split)
        rows = self._rows.get(split, [])
        return [
            self._inputs.encode([*rows, *(() if search is None else search.texts.rows(reader.form))], split, reader)
            for reader in readers
        ]

    def collate(self, rows: Sequence[Row], reader: Reader) -> Batch:
        """Pad to the longest text, and to the largest number of candidates.

        The inputs are those of the reader's form. `candidates`, `(rows, n)`, has numbers of pairs or documents and -1 for
        none. Targets: `labels`, `(rows,)`, the place of the first positive or -100; `candidates_mask` and `positives`,
        `(rows, n)`.
        """
        return Batch(inputs=self._inputs.collate(rows, reader), targets=targets(rows))

    def pieces(self, rows: Sequence[Row], reader: Reader) -> Pieces | None:
        """The texts of the rows, or the pairs of them."""
        return self._inputs.pieces(rows, reader)

    def texts(self, split: str) -> Sequence[tuple[str, ...]]:
        """Each query with its candidates."""
        search = self._search.get(split)
        found: list[tuple[str, ...]] = [(row.query, *row.documents) for row in self._rows.get(split, ())]
        return [*found, *(() if search is None else search.texts.texts())]

    def compared(self, split: str) -> Sequence[tuple[str, ...]]:
        """The queries: one that was trained on with other candidates is no test either."""
        return [(row.query,) for row in self._rows.get(split, ())]

    def units(self, batch: Batch, masks: Mapping[str, Tensor]) -> Mapping[Unit, float]:
        """Rows, which have one label each, and tokens with padding."""
        del masks
        tokens = [tensor for fields in batch.inputs.values() for name, tensor in fields.items() if name == "input_ids"]
        rows = float(len(batch.rows))
        return {
            "rows": rows,
            "labels": rows,
            "labelled": float((batch.targets["labels"] != IGNORE).sum()),
            "tokens": float(sum(each.numel() for each in tokens)),
            "pairs": float(sum(len(each) * each.shape[1] ** 2 for each in tokens)),
        }

    def hard_loss(self, features: Features, batch: Batch) -> Mapping[str, Mean]:
        """The cross-entropy of the positives among the candidates; none without `positives`."""
        from kdspec.objectives.soft_labels import outputs
        from kdspec.ops.ranking.label_losses import cross_entropy_of_positives

        if self._task.positives is None:
            return {}
        scores = outputs(features)[0].dense()
        positives, there = (batch.targets[name].to(scores.device) for name in ("positives", "candidates_mask"))
        positives = positives * batch.targets["answered"].to(scores.device)[:, None]
        return {"labels": cross_entropy_of_positives(scores, positives, there)}

    def hard_view(self, features: Features, batch: Batch) -> View | None:
        """The vectors of queries and documents, with `negatives` of other rows; None for a model that reads pairs."""
        return view_of(features, batch) if IDS[0] in batch.targets else None

    def hard_loss_across(self, view: View) -> Mapping[str, Mean]:
        """The cross-entropy of the positives among the candidates and the documents of other rows."""
        return loss_across(view)

    def beside_teacher(self, split: str) -> Evaluator | None:
        """The share of queries with the teacher's first candidate; None for a search, which has labels."""
        return None if split in self._search else AnswersBesideTeacher(CandidateMetrics(self._rows.get(split, ())))

    def evaluator(self, split: str) -> Evaluator:
        """nDCG@10, MRR@10, MAP and accuracy of the given candidates, and the metrics of the search."""
        rows = self._rows.get(split, ())
        if (search := self._search.get(split)) is None:
            return CandidateMetrics(rows)
        return SearchMetrics(CandidateMetrics(rows), search, len(rows), RETRIEVE, self._task.selects_by())

    def standalone(self, reader: Reader, module: nn.Module) -> Standalone:
        """The scores of documents for a query."""
        limits = limits_of(self._task.max_length)
        if reader.form != "each":
            return of_pairs(reader.tokenizer, limits.pair)
        prompts = reader.prompts.get("query", ""), reader.prompts.get("document", "")
        return of_compared(reader.tokenizer, (limits.query, limits.document), comparison_of(module), prompts)

    def answers(self, split: str) -> RowAnswers:
        """The scores of the candidates."""
        return CandidateAnswers(self._rows[split])


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The task."""
    return [Ranking]
