"""A row of the table at the end of a run, on disk too; without torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from kdspec.source import read_back
from kdspec.source.read_back import Count, Damage, Form

Bins = list[tuple[Count, float, float] | None]
"""For each bin of confidences how many answers it has, their mean confidence and the share that is right."""


Share = Annotated[float, Field(ge=0, le=1)]
Drawn = Annotated[float, Field(gt=-1e300, lt=1e300)]
"""A number that has a place in a picture: a range of larger ones may not be finite."""


@dataclass(frozen=True)
class RowReliability:
    """How far the confidence in answers can be trusted, as `kdspec.data.confidence.reliability` has it."""

    bins: Bins
    coverage: list[tuple[Share, Share, Share]]
    asked: list[tuple[float, float, float | None, float]]


@dataclass(frozen=True)
class RowCalibration:
    """What the last stage of a calibrated model has fitted."""

    method: str
    values: dict[str, float | list[float]]
    before: dict[str, float]
    """The metrics before it."""
    bins: Bins | None
    """Its answers before it."""


Marked = tuple[str, bool]
"""A part of a text, and whether it is one of the words in question."""
Answer = tuple[str, str | None, str, float | None, str, float | None]
"""The word, label or column (empty for a whole row), its label or None, the model's answer and its confidence or score, the
teacher's answer and its own."""


@dataclass(frozen=True)
class DifferingRow:
    """A row on which a model and its teacher differ."""

    row: Count | None
    """Its number in the split or the set, from 1; None for what is no row."""
    texts: list[list[Marked]]
    """Its texts, or a part of them if they are long."""
    answers: list[Answer]
    """The answers that differ, or the first of them."""
    about: str = ""
    """How far the two are apart."""
    right: list[tuple[bool | None, bool | None]] = field(default_factory=list)
    """For each answer whether the model's and the teacher's are right, None if that is not known; empty: they are where they
    are the label."""


@dataclass(frozen=True)
class RowErrors:
    """Where the answers of a model are wrong or other than its teacher's, as `kdspec.data.answers.error_analysis` has it."""

    unit: Literal["rows", "words"] = "rows"
    """What the confusions count."""
    against: Literal["labels", "teacher"] = "labels"
    """What the confusions compare the answers with."""
    entities: bool = False
    """Whether `classes` are types of entities."""
    classes: list[tuple[str, Share | None, Share | None, Share | None, Count, Share | None]] = field(
        default_factory=list
    )
    """Name, precision, recall, F1, number of labels, and F1 of the teacher."""
    unlisted: Count = 0
    names: list[str] = field(default_factory=list)
    matrix: list[list[Count]] = field(default_factory=list)
    confused: list[tuple[str, str, Count]] = field(default_factory=list)
    points: list[tuple[str, list[tuple[Drawn, Drawn]]]] = field(default_factory=list)
    compared: Count = 0
    """Rows that both the model and its teacher have answered."""
    differ: Count | None = None
    """How many of these have a different answer; None for numbers."""
    counted: str = "rows"
    """What `compared` and `differ` count."""
    answer: str = "answer"
    """What of them differs."""
    order: str = ""
    """How `differing` is ordered, as a sentence; empty: by the confidence in both answers, or by the distance of numbers."""
    number: Literal["confidence", "score"] = "confidence"
    """What the number beside an answer is."""
    differing: list[DifferingRow] = field(default_factory=list)
    """The rows on which both differ most."""


@dataclass(frozen=True)
class ResultRow:
    """One model, with the head for one task. Its metrics are those of `split`, on which no stage has trained."""

    model: str
    role: str
    """`teacher`, `student`, `baseline` for a student trained without distillation, or `trained` in a run without any."""
    task: str
    split: str
    metrics: dict[str, float]
    agreement: float | None
    """The share of its answers that are those of the task's teacher, the first of several."""
    agrees_on: str | None
    """What `agreement` counts, such as `rows with the same class`; None without agreement."""
    parameters: Count | None
    """Number of its parameters; None for a model without weights, whose answers are recorded in the rows."""
    bytes: Count | None
    """Size of its weights on disk: of the files of a trained model, or of those that it was loaded from; of its parameters in
    memory if there are none. None without weights."""
    latency_ms: float | None
    """Median milliseconds of one row on this machine; None without rows, and without weights."""
    lower_is_better: list[str]
    """The metrics for which lower is better, as the task's evaluator declares."""
    selected_by: str
    """The metric that selects the best model: that of its stage's `evaluate`, or the task's own."""
    rows: Count
    """Number of rows of `split`."""
    labelled: Count
    """How many of them the metrics count: those with a label."""
    beside: list[str] = field(default_factory=list)
    """The teachers beside which the metrics are measured, where no row has a label; several are averaged as their strategy
    does it."""
    calibration: RowCalibration | None = None
    """What the last stage of a calibrated model has fitted."""
    confidence: RowReliability | None = None
    """How far the confidence in its answers can be trusted; None: not known."""
    errors: RowErrors | None = None
    """Where its answers are wrong or other than its teacher's; None: not known. It is in `table.json` alone, not in the log:
    it has texts of rows."""


def measured_beside(metrics: Collection[str], teachers: Sequence[str]) -> str:
    """The metrics of rows without labels, and the teachers: `agreement and kl with teacher `judge``."""
    *first, last = metrics
    named = f"{', '.join(first)} and {last}" if first else last
    whose = " and ".join(f"`{teacher}`" for teacher in teachers)
    return f"{named} with {'teacher' if len(teachers) == 1 else 'the average of teachers'} {whose}"


_ROWS: Form[tuple[ResultRow, ...]] = Form(tuple[ResultRow, ...])


def read_table(file: Path) -> tuple[ResultRow, ...] | None:
    """The rows in `table.json` of a run; None if there is no such file.

    Raises:
        FindingError: KD003 if it is damaged.
    """
    try:
        return read_back.read(file, _ROWS)
    except FileNotFoundError:
        return None
    except Damage as damage:
        help_ = "restore the file, or give the command of the run again, which writes the table again"
        raise read_back.refused(file, damage, help=help_) from damage
