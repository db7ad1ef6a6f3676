"""The task `token_classification`: a tag for each word of a sentence, such as entities or parts of speech."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kdspec.api.component import Component
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.context import BuildContext, Input, TaskContext
from kdspec.api.kinds.kinds import Dataset, Task
from kdspec.api.kinds.losses import LogitKind
from kdspec.api.spec.bounds import LONGEST_ROW
from kdspec.api.working.batch import Batch
from kdspec.api.working.evaluator import Evaluator
from kdspec.api.working.row_answers import RowAnswers
from kdspec.api.working.standalone import Standalone
from kdspec.api.working.task import BuiltTask, Head, Reader, Row
from kdspec.data import confidence, tag_schemes, texts
from kdspec.data.answers.beside_teacher import WordsBesideTeacher, check_metric, names_beside
from kdspec.data.answers.standalone_answers import of_tags
from kdspec.data.answers.tag_answers import TagAnswers
from kdspec.data.answers.tag_metrics import TagMetrics
from kdspec.data.columns import ColumnPlace, missing, named
from kdspec.data.confidence import ConfidenceMetric
from kdspec.data.label_columns import MissingMarks
from kdspec.data.label_names import LabelNames
from kdspec.data.labels.taught_classes import taught_classes
from kdspec.data.labels.word_tags import NO_TAG, TagColumn, WordTags, needs_entities
from kdspec.data.tagged_sentences import read_words
from kdspec.data.word_tokens import Window, firsts, windows, word_windows
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import nn

    from kdspec.api.working.step import Features
    from kdspec.ops.mean import Mean

_IGNORE = NO_TAG
_OF_ENTITIES = ("f1", "precision", "recall", "accuracy")


class TokenClassification(Task):
    """A tag for each word of a sentence, such as its part of speech or its entity.

    Rows have a list of words and a list of as many tags; a word may be a single character. The tag of a word is at its
    first token, and soft labels are compared at these tokens only. So teacher and student may have different
    tokenizers. A row without tags, and every row of the split `unlabelled`, is left out of the metrics and the hard loss.
    A word with the tag -100, or -1 beside the numbers 0 to n - 1, has none: it counts in no loss and no metric. With
    `tags: null` no row has tags: the student learns from a teacher alone, and metrics are measured beside it.
    """

    name = "token_classification"
    scope = "position"
    head: ClassVar[str | None] = "token_classification"
    labelled: ClassVar[bool] = True
    measured_beside: ClassVar[bool] = True
    length_limit: ClassVar[str | None] = "max_length"
    answered: ClassVar[Literal["row", "word"] | None] = "word"
    logits: ClassVar[LogitKind | None] = "classes"

    data: Dataset
    """The rows."""
    tokens: str = "tokens"
    """The column with the list of words."""
    tags: str | None = "tags"
    """The column with the list of their tags: names, or numbers that `labels`, the data set or a loaded head names; null: the
    rows have no tags."""
    scheme: tag_schemes.Scheme | None = None
    """How the tags mark entities: `iob2` (`B-PER I-PER O`), `iob1` (`B-` only between two entities of a type), `bmes`
    and `bioes` (last and single words have tags of their own), `bilou` (the same with other letters), or `plain` for
    tags without entities. Default: inferred from the tags of `train`; where most of them mark entities, all must."""
    convert_to: Literal["iob2", "bmes", "bioes", "bilou"] | None = None
    """The scheme of the tags that the models learn, such as that of a teacher. Default: that of the rows."""
    labels: LabelNames | None = None
    """The tags in the order of the logits; for rows with the numbers 0 to n - 1 their names. Default: those that the data
    set declares, or those of `train`, for entities every tag of each type; numbers have the names of a loaded head with
    as many classes."""
    missing: MissingMarks = []
    """How a word without a tag is written, such as `_`, besides -100: a text, or several."""
    without_text: texts.WithoutText = "error"
    """For a row whose text is empty or null, or has no words: an error, or `leave_out`, which reports their number."""
    max_length: int | None = Field(default=None, ge=3, le=LONGEST_ROW)
    """Maximum number of tokens of a row. Default: the tokenizer's limit."""
    long_sentences: Literal["split", "cut"] = "split"
    """For a longer sentence: several rows, split between words, or the first of them only. In the metrics, truncated words
    are wrong, or no entity."""
    label_all_pieces: bool = False
    """Whether the other tokens of a word have its label too, in the hard loss; after `B-PER` that is `I-PER`."""
    metric: Literal["f1", "precision", "recall", "accuracy", ConfidenceMetric] | None = None
    """The metric that selects the best student: of entities, or the share of words with the correct tag. Default: `f1`
    if the tags mark entities, else `accuracy`. The others are of the confidence in the tags of the words that are read: the
    calibration error in bins of equal width (`ece`) and of equally many words (`ece_adaptive`), the score of Brier, the
    negative log-likelihood, and the share of words of highest confidence of which 95 % are right."""

    @model_validator(mode="after")
    def _metric_of_labels(self) -> Self:
        check_metric(self, labelled=self.tags is not None)
        return self

    def has_labels(self) -> bool:
        """Whether `tags` names a column."""
        return self.tags is not None

    def unwritten(self) -> Collection[str]:
        """`metric`, where no row has a label."""
        return () if self.has_labels() else ("metric",)

    def adaptor(self) -> Mapping[str, str | list[str]]:
        """The field paths for a transformers model; `logits_mask` selects the first token of each word."""
        return {**texts.ADAPTOR, "logits_mask": "batch.word_mask"}

    def example(self, context: BuildContext, rows: int, longest: int | None) -> Mapping[str, Input]:
        """Tokens, their mask and types, the mask of first tokens of words, and labels."""
        del context
        inputs = texts.example(rows, self.max_length, longest)
        shape = inputs["input_ids"].shape
        return {**inputs, "word_mask": Input(shape), "labels": Input(shape, value=0, target=True)}

    def sample(self, context: BuildContext, rows: int) -> Sequence[Sequence[str]] | None:
        return texts.sample(self.data, context, [self.tokens], rows)

    def to_predict(self, data: Dataset, labels: Sequence[str]) -> Self:
        """With the tags as the models learn them."""
        names = {"labels": list(labels), "scheme": "plain", "convert_to": None, "metric": None}
        return self.model_copy(update={"data": data, "missing": [], **names})

    def without_rows(self) -> Tagging:
        """With the labels in the spec."""
        return Tagging(self, {}, TaskContext())

    def label_columns(self) -> Mapping[ColumnPlace, str]:
        """That of `tags`."""
        return {} if self.tags is None else {("tags",): self.tags}

    def metric_names(self) -> Collection[str]:
        """Those of `metric`; for plain tags only accuracy; without tags those beside a teacher."""
        if self.tags is None:
            return names_beside("classes")
        return (*(("accuracy",) if self.scheme == "plain" else _OF_ENTITIES), *confidence.METRICS)

    def check(self, context: BuildContext) -> Iterator[Fault]:
        """Whether the rows have the columns, and the settings are compatible."""
        if self.scheme == "plain" and (setting := _of_entities(self)) is not None:
            yield needs_entities(*setting, "`scheme: plain` has none")
        splits = texts.columns_of(self.data, context)
        yield from missing(splits, {("tokens",): self.tokens}, {}, named(self))

    def build(self, context: TaskContext) -> Tagging:
        """Read the rows and check their tags."""
        return Tagging(
            self,
            texts.splits_of(
                self.data, context, (self.tags,), inputs={("tokens",): self.tokens}, without_text=self.without_text
            ),
            context,
        )


class Tagging(BuiltTask):
    """The built task; without rows if there are no splits."""

    def __init__(self, task: TokenClassification, splits: Mapping[str, Any], context: TaskContext) -> None:
        self._task, self._splits = task, splits
        self._words = {split: read_words(rows, split, task.tokens, "tokens") for split, rows in splits.items()}
        if splits and context.reads_labels and task.tags is not None:
            texts.check_column(splits["train"], "train", task.tags, ("tags",))
        found = self._read(splits, context) if splits else WordTags(tuple(task.labels or ()), "plain", {})
        self._entities, self._tags = found.scheme != "plain", found.rows
        self.head = Head(kind=task.head, labels=found.names)
        self._continued = tag_schemes.continued(self.head.labels) if self._entities else range(len(self.head.labels))

    def rows(self, split: str) -> int:
        """Number of sentences of the split."""
        return len(self._splits[split]) if split in self._splits else 0

    def labelled(self, split: str) -> int:
        """Number of sentences with a tag."""
        return sum(of is not None for of in self._tags.get(split, ()))

    def encode(self, split: str, readers: Sequence[Reader]) -> list[list[dict[str, Any]]]:
        """Lists of token ids, token types if the tokenizer returns them, labels, and the mask of first tokens of words.

        Sentences are split alike for all readers. The mask has only words for which all readers have tokens.
        """
        tokenizers = [reader.tokenizer for reader in readers if reader.answers_of is None]
        limits = [texts.limit(texts.present(tokenizer), self._task.max_length) for tokenizer in tokenizers]
        read = windows(self._words[split], tokenizers, limits, whole=self._task.long_sentences == "split")
        untokenized, tokenized = word_windows(self._words[split], read), iter(read)
        of_each = [untokenized if reader.answers_of else next(tokenized) for reader in readers]
        examples: list[list[dict[str, Any]]] = [[] for _ in readers]
        for row in zip(*of_each, strict=True):
            begins = [firsts(window) for window in row]
            common = set(begins[0]).intersection(*begins[1:])
            for window, first, made in zip(row, begins, examples, strict=True):
                made.append(self._example(split, window, {word: first[word] for word in sorted(common)}))
        return examples

    def collate(self, rows: Sequence[Row], reader: Reader) -> Batch:
        """Pad to the longest row, with the tokenizer's padding side and values."""
        mask = texts.padded([row["word_mask"] for row in rows], 0, reader.tokenizer)
        labels = texts.padded([row["labels"] for row in rows], _IGNORE, reader.tokenizer)
        if reader.answers_of is not None:
            return Batch(inputs={"": {}}, targets={"labels": labels, "word_mask": mask})
        return Batch(
            inputs={"": {**texts.collate(rows, reader.tokenizer), "word_mask": mask}}, targets={"labels": labels}
        )

    def column(self, split: str, name: str) -> Sequence[Any] | None:
        """The values of a column that the rows have."""
        return texts.column(self._splits[split], name)

    def texts(self, split: str) -> Sequence[tuple[str, ...]]:
        """The words of each sentence."""
        return [tuple(words) for words in self._words[split]]

    def hard_loss(self, features: Features, batch: Batch) -> Mapping[str, Mean]:
        """The cross-entropy over the labelled tokens."""
        from kdspec.objectives.hard_labels import by_head
        from kdspec.ops.divergence import cross_entropy

        return by_head(features, batch, cross_entropy)

    def evaluator(self, split: str) -> Evaluator:
        """The share of words with the correct tag, calibration and, for entities, precision, recall and F1 over the split."""
        metric = self._task.metric or ("f1" if self._entities else "accuracy")
        return TagMetrics(metric, self.head.labels, self._tags.get(split, []), entities=self._entities)

    def answers(self, split: str) -> RowAnswers:
        """The tag of each word, and its logits."""
        return TagAnswers(self.head.labels, [len(words) for words in self._words[split]])

    def standalone(self, reader: Reader, module: nn.Module) -> Standalone:
        """The tag of each word."""
        del module
        return of_tags(reader.tokenizer, self._task.max_length, splits=self._task.long_sentences == "split")

    def beside_teacher(self, split: str) -> Evaluator:
        """The share of words with the teacher's tag, and the divergence from it."""
        del split
        return WordsBesideTeacher()

    def _read(self, splits: Mapping[str, Any], context: TaskContext) -> WordTags:
        """The tags of the rows; without a column for them the names alone."""
        task = self._task
        if task.tags is None:
            names = taught_classes(context, task.labels)
            return WordTags(names, "plain", {split: [None] * len(of) for split, of in splits.items()})
        column = TagColumn(
            column=task.tags, scheme=task.scheme, convert_to=task.convert_to, labels=task.labels, missing=task.missing,
            of_entities=_of_entities(task),
            find=lambda split, row, word: task.data.place(context, split, splits[split][row - 1], word - 1),
        )  # fmt: skip
        return column.read(splits, self._words, context)

    def _example(self, split: str, window: Window, begins: Mapping[int, int]) -> dict[str, Any]:
        tags = self._tags[split][window.sentence]
        labels = [_IGNORE] * len(window.words)
        if tags is not None:
            begins = {word: place for word, place in begins.items() if tags[word] != _IGNORE}
            for word, place in firsts(window).items():
                labels[place] = tags[word]
            for place, of in enumerate(window.words) if self._task.label_all_pieces else ():
                if of is not None and labels[place] == _IGNORE and tags[of] != _IGNORE:
                    labels[place] = self._continued[tags[of]]
        places = set(begins.values())
        mask = [int(place in places) for place in range(len(window.words))]
        here = {"labels": labels, "word_mask": mask, "sentence": window.sentence, "words": list(begins)}
        return {**(window.inputs or {"positions": window.words}), **here}


def _of_entities(task: TokenClassification) -> tuple[str, str] | None:
    """A setting that plain tags cannot have, and its value."""
    settings = {"convert_to": task.convert_to, "metric": task.metric}
    of_words = ("accuracy", *confidence.METRICS)
    return next(((key, value) for key, value in settings.items() if value is not None and value not in of_words), None)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The task."""
    return [TokenClassification]
