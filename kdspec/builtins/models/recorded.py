"""The model `recorded`: a teacher without weights, whose answers are columns of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from kdspec.api.component import Component, invalid_value
from kdspec.api.hooks import hookimpl
from kdspec.api.kinds.losses import LOGIT_KINDS, LogitKind
from kdspec.api.kinds.model import Model, ModelContext, ModelFacts
from kdspec.api.kinds.recorded import Answer, RecordedRows
from kdspec.api.working.task import ANSWERS
from kdspec.data.answers.recorded.read_answers import AnswerColumns, FormName, named_classes, read_answers
from kdspec.data.class_match import renamed
from kdspec.diagnostics.fault import Fault

if TYPE_CHECKING:
    from torch import nn

_FORMS: tuple[FormName, ...] = ("probabilities", "logits", "top_k", "votes")


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _by_text(value: Any) -> Any:
    """The keys as texts: YAML reads `0` as a number and `true` as a boolean."""
    if not isinstance(value, dict):
        return value
    return {str(key).lower() if isinstance(key, (bool, int)) else key: item for key, item in value.items()}


def _shape(value: Any) -> str:
    return "each" if isinstance(value, dict) else "several" if isinstance(value, list) else "one"


_Column = Annotated[str, Field(min_length=1)]
_ByClass = Annotated[dict[str, _Column], Field(min_length=1), BeforeValidator(_by_text)]
ClassColumns = Annotated[Annotated[_Column, Tag("one")] | Annotated[_ByClass, Tag("each")], Discriminator(_shape)]
"""One column, or a column for each class."""
VoteColumns = Annotated[
    Annotated[_Column, Tag("one")] | Annotated[list[_Column], Field(min_length=1), Tag("several")],
    Discriminator(_shape),
]
"""One column with all votes of a row, or a column for each annotator."""


class Recorded(Model):
    """A teacher that is known by its answers, which are columns of the rows.

    It has no weights, no tokenizer and needs no cache, and cannot be trained. Exactly one of `probabilities`, `logits`, `top_k`,
    `votes` and, for the candidates of a `ranking`, `scores` names the columns. A cell is text in JSON, or a list or an object as in JSON Lines and Parquet;
    for `token_classification` it is a list with an answer for each word.

    The logits of probabilities are their logarithms, so that a softmax at any temperature is that of the probabilities; of
    independent labels log p - log(1 - p). A probability of 0 counts as 1.2e-38, the smallest normal number of float32, whose logarithm is -87.3.

    A row without an answer, null or an empty text, is left out of the soft labels: it does not count in their mean. Of several
    teachers those that have answered are averaged. The other terms, such as hard labels, have all rows. At the end it is evaluated on the
    rows with an answer, as any teacher.
    """

    name = "recorded"
    scope = "position"
    has_weights = False

    probabilities: ClassColumns | None = None
    """The column of a probability for each class: a list in the order of `labels`, or of the task's labels without it, or an object
    `{"spam": 0.9, "ham": 0.1}`; or a column for each class, `{spam: p_spam, ham: p_ham}`. They sum to 1, except those of the task `multi_label`."""
    logits: ClassColumns | None = None
    """The column of logits, in the same three forms; for the task `regression` of a number."""
    scores: Annotated[list[str], BeforeValidator(_listed, json_schema_input_type=str | list[str])] = []
    """The column with a list of scores for each row, one for each candidate, or a column for each of the task's columns of
    documents: `[pos_scores, neg_scores]`. Default, if no other answers are named: the columns that the task names in `scores` or `margins`."""
    top_k: _Column | None = None
    """The column of the natural logarithms of the probabilities of the most likely classes: `{"spam": -0.1}`, a list of pairs
    `["spam", -0.1]`, or of objects with `token` and `logprob`. Names that are no class count as not listed."""
    tail: Literal["spread", "drop"] = "spread"
    """What becomes of the probability that `top_k` does not list. `spread`: the other classes have equal parts of it; `drop`: they have
    none, and the listed ones are divided by their sum."""
    votes: VoteColumns | None = None
    """The column of the annotators' classes, `["spam", "spam", "ham"]`, or of counts, `{"spam": 2, "ham": 1}`; or a column for each
    annotator. They are taught as a distribution; for `multi_label` each vote is a list."""
    labels: Annotated[dict[str, str], BeforeValidator(_by_text)] = {}
    """The name in the task for names in the answers, `{SPAM_V2: spam, ads: spam}`. Two names of one class are added: probabilities, votes,
    and logits as logarithms of probabilities. Lists have the order of this mapping. Default: the names are the same but for case, blanks, `_` and `-`."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        named = [*self._written_forms, *(["scores"] if self.scores else [])]
        if len(named) > 1:
            message = f"`{named[0]}` and `{named[1]}` are answers of two teachers: write a model for each"
            raise invalid_value(message, named[1], type_="exclusive_keys", keys=named[:2])
        if self.tail != "spread" and self.top_k is None:
            raise invalid_value("`tail` is of `top_k`, which is not written", "tail")
        if self.labels and not self._written_forms:
            raise invalid_value("`labels` are of classes, and candidates have none", "labels")
        return self

    @property
    def _written_forms(self) -> list[FormName]:
        """The forms of answers by class that are written."""
        return [form for form in _FORMS if self._columns_of(form) is not None]

    @property
    def _answer_columns(self) -> AnswerColumns | None:
        form = next(iter(self._written_forms), None)
        named = None if form is None else self._columns_of(form)
        if form is None or named is None:
            return None
        return AnswerColumns(form=form, named=named, labels=self.labels, tail=self.tail)

    def _columns_of(self, form: FormName) -> str | Sequence[str] | Mapping[str, str] | None:
        return {"probabilities": self.probabilities, "logits": self.logits, "top_k": self.top_k, "votes": self.votes}[
            form
        ]

    def facts(self, context: ModelContext) -> ModelFacts:
        """The classes, if a column of each is named; of other answers the rows have them."""
        del context
        found = self._answer_columns
        if found is None or not isinstance(found.named, Mapping):
            return ModelFacts()
        names = tuple(dict.fromkeys(renamed(tuple(found.named), self.labels)))
        return ModelFacts(classes=len(names), labels=names, by_name=True)

    def form(self, context: ModelContext) -> str:
        """Its answers in place of texts; each such model reads its own."""
        return f"{ANSWERS}{context.name}" if self._written_forms else "scores"

    def records(self) -> Mapping[tuple[str | int, ...], str]:
        """The columns of its answers."""
        if found := self._answer_columns:
            return found.columns
        return {("scores", number): name for number, name in enumerate(self.scores)}

    def teaches(self, logits: LogitKind | None) -> Fault | None:
        """Whether its answers are of such logits."""
        has = LOGIT_KINDS[logits or "classes"]
        form = next(iter(self._written_forms), None)
        if logits == "scores":
            if form is None:
                return None
            return Fault(
                "KD313",
                f"it has recorded {_words(form)}, and the task has {has}",
                (form,),
                help="name the column of the scores of the candidates in `scores`",
            )
        if form is None:
            help_ = "recorded scores teach a task `ranking`; name the columns of answers by class in `probabilities`, `logits`, `top_k` or `votes`"
            return Fault("KD313", f"it has recorded scores of candidates, and the task has {has}", help=help_)
        if logits == "numbers" and form != "logits":
            return Fault(
                "KD313",
                f"it has recorded {_words(form)}, and the task has {has}",
                (form,),
                help="name the column of its numbers in `logits`",
            )
        if logits == "labels" and form == "top_k":
            help_ = "write a probability for each label, in `probabilities`"
            return Fault(
                "KD313", f"the most likely of classes are recorded, and the task has {has}", (form,), help=help_
            )
        return None

    def answers(self, rows: RecordedRows) -> Sequence[Answer | None]:
        """Read and check the rows."""
        found = self._answer_columns
        assert found is not None, "scores are read by their task"
        return read_answers(found, rows)

    def classes_in(self, rows: RecordedRows) -> Sequence[str]:
        """The names in the answers, or those of the task that `labels` has for them; of the most likely classes some may be none."""
        found = self._answer_columns
        return () if found is None or self.top_k is not None else named_classes(found, rows)

    def build(self, context: ModelContext) -> nn.Module:
        """A module that hands the answers on."""
        from kdspec.networks.recorded_scores import RecordedScores

        del context
        return RecordedScores()


def _words(form: FormName) -> str:
    return {"top_k": "log-probabilities"}.get(form, form)


@hookimpl
def kdspec_components() -> list[type[Component]]:
    """The model."""
    return [Recorded]
