"""The task `embedding`: a vector for each text, learnt from a teacher's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import repeat
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from kdspec.api.component import Component, invalid_value
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext, Input, TaskContext
from kdspec.api.kinds.kinds import Dataset, Task
from kdspec.api.spec.bounds import LONGEST_ROW
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator, Metric, State
from kdspec.api.working.row_answers import RowAnswers
from kdspec.api.working.standalone import Standalone
from kdspec.api.working.task import BuiltTask, Head, Reader, Row
from kdspec.data import texts
from kdspec.data.answers.standalone_answers import of_vectors
from kdspec.data.columns import ColumnPlace, missing, named
from kdspec.data.embedding.differing_pairs import differing_pairs
from kdspec.data.embedding.evaluate_sets import SPLITS, BuiltSet, ScoredPairs, SetDefaults, below, placed
from kdspec.data.embedding.retrieval_set import EvaluateSets, RetrievalSet
from kdspec.data.embedding.translations import METRICS, ReadTexts, TranslatedRows
from kdspec.data.embedding.unique_texts import UniqueTexts, Vectors, prompted
from kdspec.data.embedding.vector_answers import VectorAnswers
from kdspec.diagnostics.fault import Fault
from kdspec.hf.embedding.readout_facts import readout_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kdspec.api.working.step import Features

TRANSLATIONS = "translations"
"""The first part of the names of the metrics of translations."""
_ADAPTOR: Mapping[str, str | list[str]] = MappingProxyType(
    {
        "embedding": "output.embedding",
        "hidden": "output.hidden_states",
        "attention": "output.attentions",
        "attention_scores": "output.attention_scores",
        "inputs_mask": "batch.attention_mask",
    }
)
_MOST_COMPARED = 5_000
"""Texts whose nearest neighbours are compared; of more, evenly spaced ones."""


class Embedding(Task):
    """A vector for each text. There are no labels: a student learns from the vectors of a teacher.

    With `translations` a row is several training rows: its text, and each of its translations. The student reads the
    translation and a teacher the text, so that the vector of a translation follows the teacher's of the text (Reimers and
    Gurevych 2020, arXiv 2004.09813). The rows of the split `unlabelled` are trained on as those of `train` are; they need
    no translations.

    Models are evaluated on the sets of `evaluate`, and on the translations of the rows of `validation` and `test`.
    """

    name = "embedding"
    scope = "position"
    head: ClassVar[str | None] = "embedding"
    length_limit: ClassVar[str | None] = "max_length"

    data: Dataset
    """The rows. `validation` and `test` are read only with `translations`."""
    text: str
    """The column of the text."""
    translations: list[str] = []
    """Columns of translations of the text, each in one language. Metrics of each: `translations.<column>.accuracy`, the share
    of texts whose nearest translation is their own (`.to`), and of translations whose nearest text is (`.from`), and the mean
    of both."""
    evaluate: EvaluateSets = {}
    """Sets of texts on which the vectors are evaluated, by name, with the metrics `<name>.spearman`, `<name>.pearson`,
    `<name>.spearman_dot` and `<name>.pearson_dot`; or queries and a corpus, with `<name>.ndcg@10`, `<name>.mrr@10`,
    `<name>.recall@100` and `<name>.map`. The first metric of the first set selects the best student. In the table at the end
    `<name>.asymmetric.ndcg@10` is that of a student's queries among the documents of the teacher, if their vectors are equally
    wide."""
    without_text: texts.WithoutText = "error"
    """For a row whose text or translation is empty or null: an error, or `leave_out`, which reports their number. A row
    without a translation keeps its other texts."""
    max_length: int | None = Field(default=None, ge=2, le=LONGEST_ROW)
    """Number of tokens to which a text, with its prompt, is truncated. Default: the tokenizer's limit."""

    prompt: str | None = None
    """What the texts are, such as `query` or `document`: the name of a prompt, which each model has its own text for, or none.
    Default: the prompt of a model for texts of which nothing is said, mostly none."""

    @model_validator(mode="after")
    def _different(self) -> Self:
        for place, column in enumerate(self.translations):
            if column == self.text or column in self.translations[:place]:
                raise invalid_value(f"`{column}` is named twice", "translations", place)
        if self.translations and TRANSLATIONS in self.evaluate:
            message = f"`{TRANSLATIONS}` is the name of the metrics of translations"
            raise invalid_value(message, "evaluate", TRANSLATIONS)
        return self

    def adaptor(self) -> Mapping[str, str | list[str]]:
        """The field paths for a transformers model."""
        return _ADAPTOR

    def has_labels(self) -> bool:
        """No."""
        return False

    def has_logits(self) -> bool:
        """No."""
        return False

    def has_split(self, split: str) -> bool | None:
        """Of `validation` and `test` whether there is anything to evaluate."""
        if split not in SPLITS:
            return self.data.has_split(split)
        found = {each.has_split(split) for each in self.evaluate.values()}
        if self.translations:
            found.add(self.data.has_split(split))
        return True if True in found else None if None in found else False

    def prompts(self) -> Mapping[ColumnPlace, str]:
        """That of `prompt`."""
        return {} if self.prompt is None else {("prompt",): self.prompt}

    def example(self, context: BuildContext, rows: int, longest: int | None) -> Mapping[str, Input]:
        """Tokens, their mask and types."""
        del context
        return texts.example(rows, self.max_length, longest)

    def sample(self, context: BuildContext, rows: int) -> Sequence[Sequence[str]] | None:
        """Those of the student: texts and translations in one column."""
        found = texts.sample(self.data, context, (self.text, *self.translations), rows)
        return found and [[text for column in found for text in column]]

    def to_predict(self, data: Dataset, labels: Sequence[str]) -> Self:
        """The texts alone."""
        del labels  # it has none
        return self.model_copy(update={"data": data, "translations": [], "evaluate": {}})

    def without_rows(self) -> EmbeddedTexts:
        return EmbeddedTexts(self, {}, TaskContext())

    def metric_names(self) -> Collection[str]:
        """Those of each set and of each language; of one set alone without its name, too."""
        sets = [f"{name}.{metric}" for name, each in self.evaluate.items() for metric in each.metrics]
        alone = [*next(iter(self.evaluate.values())).metrics] if len(self.evaluate) == 1 else []
        return (*sets, *alone, *(f"{TRANSLATIONS}.{column}.{name}" for column in self.translations for name in METRICS))

    def check(self, context: BuildContext) -> Iterator[Fault]:
        """Whether rows and sets have their columns, and whether all splits are read."""
        splits = texts.columns_of(self.data, context)
        columns: dict[ColumnPlace, str] = {("translations", n): name for n, name in enumerate(self.translations)}
        yield from missing(splits, {("text",): self.text}, {}, named(self))
        with_translations = {split: names for split, names in splits.items() if split != "unlabelled"}
        yield from missing(with_translations, columns, {}, named(self))
        for split in SPLITS:
            if not self.translations and self.data.has_split(split):
                message = f"`{split}` has no effect: without `translations` these rows are not evaluated"
                help_ = "sets for evaluation are written below `evaluate`"
                yield Fault("KD305", message, ("data", self.data.name, split), help=help_)
        for name, each in self.evaluate.items():
            with below("evaluate", name):
                for fault in each.check(context):
                    fault.at = ("evaluate", name, *fault.at)
                    yield fault

    def build(self, context: TaskContext) -> EmbeddedTexts:
        """Read the rows and the sets, and check their columns."""
        splits = texts.splits_of(
            self.data,
            context,
            self.translations,
            inputs={("text",): self.text},
            without_text=self.without_text,
            only=None if self.translations else ("train", "unlabelled"),
        )
        return EmbeddedTexts(self, splits, context)


class EmbeddedTexts(BuiltTask):
    """The task with its rows; without rows if there are no splits."""

    def __init__(self, task: Embedding, splits: Mapping[str, Any], context: TaskContext) -> None:
        self.head = Head(kind=task.head)
        self.sides = bool(task.translations)
        self._task = task
        of = {
            split: TranslatedRows.of(rows, split, task.text, task.translations, task.without_text, context)
            for split, rows in splits.items()
        }
        self._read: dict[str, ReadTexts] = {
            split: rows.to_train_on() for split, rows in of.items() if split not in SPLITS
        }
        self._unique = {split: UniqueTexts() for split in SPLITS}
        self._sets: dict[str, dict[str, BuiltSet]] = {split: {} for split in SPLITS}
        for name, each in task.evaluate.items() if splits else ():
            with below("evaluate", name):
                default = SetDefaults(prompt=task.prompt, without_text=task.without_text)
                for split, made in each.build(placed(context, "evaluate", name), self._unique, default).items():
                    self._sets[split][name] = made
        for split in SPLITS:
            if split in of:
                made_ = of[split].sets(self._unique[split], task.prompt)
                self._sets[split] |= {f"{TRANSLATIONS}.{column}": pairs for column, pairs in made_.items()}

    def rows(self, split: str) -> int:
        """Of `train` and `unlabelled` the texts and translations, of the other splits the different texts to evaluate."""
        if split in SPLITS:
            return len(self._unique[split])
        return len(self._read[split].student) if split in self._read else 0

    def encode(self, split: str, readers: Sequence[Reader]) -> list[list[dict[str, Any]]]:
        """Lists of token ids, and token types if the tokenizer returns them."""
        return [self._encoded(self._prompted(split, reader), reader) for reader in readers]

    def collate(self, rows: Sequence[Row], reader: Reader) -> Batch:
        """Pad to the longest row, with the tokenizer's padding side and values."""
        return Batch(inputs={"": texts.collate(rows, reader.tokenizer)})

    def texts(self, split: str) -> Sequence[tuple[str, ...]]:
        """The texts as the student reads them."""
        return [(text,) for text in self._texts(split, "")]

    def uncut(self, split: str, rows: Sequence[int], reader: Reader) -> Sequence[int] | None:
        """The number of tokens of rows without `max_length`."""
        if not rows:
            return []
        known = self._prompted(split, reader)
        asked = [known[row] for row in rows]
        encoded = texts.present(reader.tokenizer)(asked, truncation=False, return_attention_mask=False, verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def evaluator(self, split: str) -> Evaluator:
        """The metrics of the sets and the languages of the split."""
        first = self._sets["validation"] or self._sets["test"]
        names = {name: each.metrics[0] for name, each in self._task.evaluate.items()}
        primary = next((Metric(f"{name}.{names.get(name, METRICS[0])}") for name in first), None)
        one = next(iter(self._task.evaluate)) if len(self._task.evaluate) == 1 else None
        sets = self._sets.get(split, {})
        return EmbeddingMetrics(sets, self._unique.get(split, UniqueTexts()), primary, one)

    def answers(self, split: str) -> RowAnswers:
        """The vectors."""
        del split
        return VectorAnswers()

    def standalone(self, reader: Reader, module: nn.Module) -> Standalone:
        """The vectors of texts."""
        prompt = prompted("", self._task.prompt, reader)
        return of_vectors(reader.tokenizer, self._task.max_length, prompt, **readout_of(module))

    def _texts(self, split: str, side: str) -> list[str]:
        if split in SPLITS:
            return self._unique[split].texts
        read = self._read.get(split, ReadTexts())
        return read.teacher if side == "teacher" else read.student

    def _prompted(self, split: str, reader: Reader) -> list[str]:
        """The texts with what a model needs before them."""
        read = self._texts(split, reader.side)
        if not reader.prompts:
            return read
        names = self._unique[split].prompts if split in SPLITS else repeat(self._task.prompt, len(read))
        return [prompted(text, name, reader) for text, name in zip(read, names, strict=True)]

    def _encoded(self, read: list[str], reader: Reader) -> list[dict[str, Any]]:
        longest = texts.limit(texts.present(reader.tokenizer), self._task.max_length)
        return texts.encode([read], reader.tokenizer, longest)


class EmbeddingMetrics(Evaluator):
    """Metrics of the vectors of all texts of a split.

    Args:
        sets: by the first part of the names of their metrics.
        texts: the texts of the split.
        primary: the metric that selects the best student; None: there is nothing to evaluate.
        one: the only set of the task, if there is one: its metrics are found without its name.
    """

    reads = frozenset({"embedding"})
    optional = frozenset[str]()
    agrees_on = "texts with the same nearest text"

    def __init__(
        self, sets: Mapping[str, BuiltSet], texts: UniqueTexts, primary: Metric | None, one: str | None
    ) -> None:
        self._sets, self._texts, self._one = sets, texts, one
        if primary is not None:
            self.primary = primary

    def add(self, features: Features, batch: Batch) -> State:
        """The vectors and the numbers of the texts.

        Raises:
            Fault: KD507 if the model does not give one vector for each text.
        """
        import torch

        found = features.heads("embedding")
        if len(found) != 1 or found[0].ndim != 2 or len(found[0]) != len(batch.rows):
            shapes = ", ".join(str(tuple(each.shape)) for each in found)
            message = f"`embedding` is of the shape {shapes} for {len(batch.rows)} texts, not (texts, width)"
            raise Fault("KD507", message)
        return {"rows": torch.tensor(batch.rows), "embedding": found[0].float()}

    def merge(self, states: Sequence[State]) -> dict[str, float]:
        """The metrics of each set and language."""
        vectors = self._vectors(states)
        return {
            f"{name}.{metric}": value
            for name, each in self._sets.items()
            for metric, value in each.merge(vectors).items()
        }

    def beside(self, states: Sequence[State], reference: Sequence[State]) -> dict[str, float]:
        """The metrics of asymmetric search."""
        mine, theirs = (self._vectors(each) for each in (states, reference))
        return {
            f"{name}.{metric}": value
            for name, each in self._sets.items()
            for metric, value in each.beside(mine, theirs).items()
        }

    def agreement(self, states: Sequence[State], reference: Sequence[State]) -> float | None:
        """The share of texts whose nearest other text, by the cosine of their vectors, is the same for both models.

        Of more than 5,000 texts at most so many, evenly spaced, are compared among one another.
        """
        from kdspec.ops.retrieval.neighbours import same_nearest

        mine, theirs = (self._vectors(each) for each in (states, reference))
        rows = (mine.known & theirs.known).nonzero()[:, 0]
        rows = rows[:: max(1, -(-len(rows) // _MOST_COMPARED))]
        if len(rows) < 2:
            return None
        return _share(same_nearest(mine.table[rows], theirs.table[rows]))

    def error_analysis(
        self, states: Sequence[State], reference: Sequence[State], names: Sequence[str]
    ) -> Mapping[str, Any]:
        """The pairs whose cosine differs most from the teacher's, if there is one."""
        del names  # vectors have none
        if not reference:
            return {}
        pairs = {name: each.pairs() for name, each in self._sets.items()}
        return differing_pairs(self._vectors(states), self._vectors(reference), pairs, self._texts.texts)

    def _vectors(self, states: Sequence[State]) -> Vectors:
        return Vectors.of(states, len(self._texts))

    def metric(self, name: str) -> Metric:
        """A metric of the only set is found without the name of the set."""
        full = f"{self._one}.{name}"
        return super().metric(
            full if self._one is not None and name in (*ScoredPairs.metrics, *RetrievalSet.metrics) else name
        )


def _share(values: Tensor) -> float | None:
    """The mean; None if a vector was not finite."""
    return None if values.isnan().any() else values.mean().item()


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The task."""
    return [Embedding]
