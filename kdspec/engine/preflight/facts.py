"""What preflight has found, as numbers; `findings.py` makes findings of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from kdspec.data.ranking.score_audit import ScoreFacts
from kdspec.source import read_back
from kdspec.source.read_back import Count, Form


@dataclass(frozen=True, kw_only=True)
class ReadFacts:
    """The rows of a split as one reader, a tokenizer and a form of the text, makes them."""

    models: tuple[str, ...]
    """The models that read so."""
    longest: Count
    """Tokens of the longest row; 0 if rows have no length."""
    mean: float
    """Tokens of a row, on average."""
    cut: Count | None = None
    """Rows that are cut at the limit; None: not known."""
    without_tokens: Count = 0
    """Rows that have no token but those that the tokenizer adds to every text."""


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """The rows of a split."""

    rows: Count
    encoded: Count
    """Rows as models get them: of a long text there may be several."""
    labelled: Count | None = None
    """Encoded rows with a label; None for a task without labels."""
    labels: dict[str, Count] = field(default_factory=dict)
    """How often each class is a label; empty if the labels are no classes."""
    in_train: Count | None = None
    """Rows that stand in `train` as they are; None: not known, or this is `train`."""
    reads: tuple[ReadFacts, ...] = ()
    """One for each reader."""


@dataclass(frozen=True, kw_only=True)
class ShownRow:
    """The first row of `train` as a reader encodes it."""

    models: tuple[str, ...]
    tokens: tuple[str, ...] = ()
    """The tokens, one for each id; empty for a model without a tokenizer."""
    inputs: dict[str, str] = field(default_factory=dict)
    """Type and shape of each input."""
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The labels by the name of the target: one for the row, or one for each token, empty where it has none."""


@dataclass(frozen=True, kw_only=True)
class AnswerFacts:
    """The answers of a teacher to labelled rows."""

    split: str
    rows: Count
    """Rows that it was asked."""
    metrics: dict[str, float]
    """Those of the task."""
    primary: str
    """The metric of the task that selects the best student."""
    higher_is_better: bool = True
    classes: Count = 0
    """The number of classes; 0 if the labels are no classes, and the numbers below mean nothing."""
    answers: Count = 0
    """Labelled rows, or tokens."""
    right: Count = 0
    most_frequent: Count = 0
    """How often the most frequent class is the label."""
    order: tuple[Count, ...] = ()
    """The class of each logit, if nearly all answers are right in this other order."""
    right_in_order: Count = 0
    confusion: tuple[tuple[Count, ...], ...] = ()
    """For each class the number of times that each class was answered; empty if there are many."""

    @property
    def accuracy(self) -> float | None:
        """The share of right answers; None if the labels are no classes."""
        return self.right / self.answers if self.answers else None


@dataclass(frozen=True, kw_only=True)
class AloneFacts:
    """Some rows, each asked alone and beside longer ones."""

    difference: float
    """The largest difference of an output, by the size of the outputs."""
    allowed: float
    """The largest difference that rounding can make."""
    message: str = ""
    """What is wrong, if the difference is larger."""
    notes: tuple[str, ...] = ()
    """Padding side, ids and masks, if it is larger."""
    help: str = ""


@dataclass(frozen=True, kw_only=True)
class SeenModel:
    """One model of a stage."""

    loaded: bool = True
    """Whether its head was in its files, and no stage of this run has trained it."""
    alone: AloneFacts | None = None
    answers: AnswerFacts | None = None
    scores: ScoreFacts | None = None
    """Its scores of candidates; None for other models, and for recorded scores that the plan has looked at."""
    left_out: tuple[str, ...] = ()
    """The checks that do not apply, and why."""


@dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """One task of a stage."""

    task: str
    classes: tuple[str, ...] = ()
    """The classes in the order of the logits."""
    splits: dict[str, SplitFacts] = field(default_factory=dict)
    shown: tuple[ShownRow, ...] = ()
    """The first row of `train`, for each reader."""
    models: dict[str, SeenModel] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    """The checks that do not apply, and why."""


_FORM: Form[tuple[TaskFacts, ...]] = Form(tuple[TaskFacts, ...])
# An event has strings in place of infinity and NaN.
_OF_EVENTS: Form[tuple[TaskFacts, ...]] = Form(tuple[TaskFacts, ...], strict=False)
_TASKS = TypeAdapter(tuple[TaskFacts, ...], config=ConfigDict(ser_json_inf_nan="constants"))


def as_data(tasks: Sequence[TaskFacts]) -> dict[str, Any]:
    """The facts as JSON data, by the name of the task."""
    return {each.task: asdict(each) for each in tasks}


def dumps(tasks: Sequence[TaskFacts]) -> bytes:
    """The facts as JSON."""
    return _TASKS.dump_json(tuple(tasks))


def loads(text: bytes) -> tuple[TaskFacts, ...]:
    """The facts that `dumps` has written. Raises ValueError if they are not."""
    return _FORM.of(read_back.parse(text))


def checked(data: Mapping[str, Any]) -> dict[str, Any]:
    """What `as_data` gives, as JSON has it, from the data of an event. Raises ValueError if it is of another form."""
    found: dict[str, Any] = json.loads(json.dumps(as_data(_OF_EVENTS.of(list(data.values())))))
    return found
