"""Which columns of a table are the text and the label, and which task they are for, from names and values."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdspec.data.columns import LABELS, PAIRS, TEXTS

Rows = Mapping[str, Sequence[Any]]
"""The first rows of a file, by column."""

_IDENTIFIER = re.compile(r"(^|_)(id|uuid|guid|index|key|number|no|nr)$|^(id|unnamed.*|)$", re.IGNORECASE)
_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}.*|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}.*")
_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*")
_FEW = 20
_LONGEST_LABEL = 60
_PARTS = re.compile(r"[;,|]")


@dataclass(frozen=True)
class Guess:
    """The columns of a task, and why."""

    text: tuple[str, ...] = ()
    """One column, or two for pairs; empty if none looks like a text."""
    label: str | None = None
    task: str = "masked_lm"
    """The task that they are for."""
    reasons: tuple[str, ...] = ()
    """What was seen, for people."""


def guess(rows: Rows) -> Guess:
    """The columns of a file from its first rows; from the names alone if there are none."""
    if {"question", "context", "answers"} <= rows.keys():
        return Guess(task="question_answering", reasons=("the columns are those of SQuAD",))
    words = next((name for name in ("tokens", "words") if _lists(rows.get(name, ()))), None)
    if words is not None:
        tags = next((name for name in ("tags", "ner_tags", "labels", "pos_tags") if _lists(rows.get(name, ()))), None)
        return Guess((words,), tags, "token_classification", (f"`{words}` has lists of words",))
    text = _pair(rows) or _text(rows)
    label = _label(rows, text)
    task = "masked_lm" if label is None else _task(rows[label])
    reasons = [*_why_text(rows, text), *([] if label is None else [_why_label(rows, label)])]
    return Guess(text, label, task, tuple(reasons))


def is_column_name(text: str) -> bool:
    """Whether this is what a text, a label or an identifier is usually called, so that it stands in a header."""
    return _named(text, TEXTS) == 2 or _named(text, LABELS) == 2 or _IDENTIFIER.search(text) is not None


def _values(rows: Rows, name: str) -> list[str]:
    return [str(value) for value in rows.get(name, ()) if value is not None and str(value).strip()]


def _lists(values: Sequence[Any]) -> bool:
    return any(isinstance(value, list) for value in values)


def _named(name: str, known: Sequence[str]) -> int:
    """How well a name says what is in a column: 2 by itself, 1 as a part, 0 otherwise."""
    lower = name.lower().strip()
    return 2 if lower in known else int(any(part in known for part in re.split(r"[\W_]+", lower)))


def _pair(rows: Rows) -> tuple[str, ...]:
    lower = {name.lower(): name for name in rows}
    for first, second in PAIRS:
        if first in lower and second in lower and _texty(rows, lower[first]) and _texty(rows, lower[second]):
            return lower[first], lower[second]
    return ()


def _texty(rows: Rows, name: str) -> bool:
    """Whether a column may be a text: with letters, and neither dates nor identifiers."""
    if _lists(rows.get(name, ())):
        return False
    values = _values(rows, name)
    if not values:
        return not _IDENTIFIER.search(name) and not _named(name, LABELS)
    letters = sum(any(char.isalpha() for char in value) for value in values) / len(values)
    dates = sum(bool(_DATE.fullmatch(value)) for value in values) / len(values)
    single = sum(len(value.split()) == 1 and value.isascii() for value in values) / len(values)
    codes = _IDENTIFIER.search(name) is not None and single > 0.5
    return letters > 0.5 and dates < 0.5 and not codes


def _text(rows: Rows) -> tuple[str, ...]:
    """The column with the longest texts; a name that says so counts like three times their length."""
    found = [name for name in rows if _texty(rows, name)]
    if not found:
        return ()

    def length(name: str) -> float:
        values = _values(rows, name)
        mean = sum(map(len, values)) / len(values) if values else 1.0
        varied = len(set(values)) / len(values) if values else 1.0
        return mean * (3 if _named(name, TEXTS) == 2 else 1) * varied * (0.2 if _named(name, LABELS) == 2 else 1)

    return (max(found, key=length),)


def _label(rows: Rows, text: Sequence[str]) -> str | None:
    """The column with few different values, or by its name."""
    scores: dict[str, float] = {}
    for name in rows:
        if name in text or (_IDENTIFIER.search(name) and not _named(name, LABELS)):
            continue
        values, said = _values(rows, name), _named(name, LABELS)
        if _lists(rows[name]):
            scores[name] = 2.0 + said
            continue
        if any(len(value) > _LONGEST_LABEL for value in values):
            continue
        if not values:
            scores.update({name: float(said)} if said else {})
            continue
        different = len(set(values))
        dates = sum(bool(_DATE.fullmatch(value)) for value in values) > len(values) / 2
        repeated = 1 - different / len(values)
        if dates or different < 2 or (said == 0 and repeated < 0.5 and not _fractions(values)):
            continue
        # Of columns without a telling name, that with the fewest values; the last one of several alike.
        scores[name] = 2.0 * said + repeated + (0.1 if different <= _FEW else 0.0)
    if not scores:
        return None
    return max(reversed(list(scores)), key=scores.__getitem__)


def _fractions(values: Sequence[str]) -> bool:
    """Whether all are numbers, and some no whole ones."""
    return all(_NUMBER.fullmatch(value) for value in values) and any(float(value) % 1 for value in values)


def _task(values: Sequence[Any]) -> str:
    written = [str(value) for value in values if value is not None and str(value).strip()]
    if _lists(values):
        return "multi_label"
    if written and _fractions(written) and len(set(written)) > min(_FEW, math.sqrt(len(written))):
        return "regression"
    parts = [[part.strip() for part in _PARTS.split(value)] for value in written]
    several = sum(len(each) > 1 for each in parts)
    names = Counter(name for each in parts for name in each)
    if several > len(written) / 5 and len(names) < len(set(written)):
        return "multi_label"
    return "sequence_classification"


def separator(values: Sequence[Any]) -> str | None:
    """What stands between several labels of a field; None if they are lists or single labels."""
    written = [str(value) for value in values if isinstance(value, str)]
    counts = {mark: sum(mark in value for value in written) for mark in (";", "|", ",")}
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] else None


def _why_text(rows: Rows, text: Sequence[str]) -> list[str]:
    reasons = []
    for name in text:
        values = _values(rows, name)
        mean = f", {sum(map(len, values)) / len(values):.0f} characters on average" if values else ""
        reasons.append(f"text: `{name}`{mean}")
    return reasons


def _why_label(rows: Rows, label: str) -> str:
    values = list(dict.fromkeys(_values(rows, label)))
    if not values:
        return f"label: `{label}`, by its name"
    shown = ", ".join(f"`{value[:30]}`" for value in values[:4]) + (", …" if len(values) > 4 else "")
    return f"label: `{label}`, {len(values)} different: {shown}"
