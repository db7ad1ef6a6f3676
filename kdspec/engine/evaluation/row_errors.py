"""What the report shows of a model's errors: scores and confusions of classes, and rows on which it differs from its teacher."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdspec.api.working.evaluator import Evaluator, State
from kdspec.api.working.task import BuiltTask
from kdspec.engine.evaluation.result_row import Answer, DifferingRow, Marked, RowErrors

_LONGEST = 400
"""Characters of a text."""
_LABELS = 3
"""Right answers that are shown."""
_BEFORE, _AFTER = 25, 45
"""Words around the first that is marked."""


def row_errors(
    evaluator: Evaluator, task: BuiltTask, split: str, states: Sequence[State], reference: Sequence[State]
) -> RowErrors | None:
    """The errors of a model on a split; None where the evaluator knows none.

    Args:
        evaluator: that of the states.
        task: the task, with the names of its classes and the texts of its rows.
        split: the rows.
        states: of the model.
        reference: of its teacher; empty without one.
    """
    found = dict(evaluator.error_analysis(states, reference, task.head.labels)) if states else {}
    if not found:
        return None
    chosen = found.pop("differing", ())
    texts = task.texts(split) if any("texts" not in each for each in chosen) else ()
    shown = [_shown(each, texts, of_words=found.get("unit") == "words") for each in chosen]
    return RowErrors(**found, differing=shown)


def _shown(found: Mapping[str, Any], texts: Sequence[tuple[str, ...]], *, of_words: bool) -> DifferingRow:
    row, answers = found["row"], found["answers"]
    of_row = found["texts"] if "texts" in found else texts[row] if row < len(texts) else ()
    if not of_words:
        shown: list[list[Marked]] = [[(_shortened(text), False)] for text in of_row]
        named = [_named(*answer) for answer in answers]
        rest = {name: found[name] for name in ("about", "right") if name in found}
        return DifferingRow(None if row is None else row + 1, shown, named, **rest)
    # In the order of the sentence, which is easier to follow.
    answers = sorted(answers, key=lambda answer: answer[0])
    places = [part for part, *_ in answers]
    named = [(of_row[part] if part < len(of_row) else str(part + 1), *rest) for part, *rest in answers]
    return DifferingRow(row + 1, [list(_marked(of_row, places))] if of_row else [], named)


def _named(part: int | str, label: Any, mine: str, sure: Any, teachers: str, teacher_sure: Any) -> Answer:
    """An answer whose part has a name only if it is a text, with texts of at most `_LONGEST` characters."""
    labels = [label] if isinstance(label, str) else label
    shown = None if labels is None else _together(labels)
    return "" if isinstance(part, int) else part, shown, _shortened(mine), sure, _shortened(teachers), teacher_sure


def _together(labels: Sequence[str]) -> str:
    """Several right answers as one text: the first of them, and the number of the others."""
    longest = _LONGEST // min(len(labels), _LABELS)
    shown = " / ".join(_shortened(label, longest) for label in labels[:_LABELS])
    return shown if len(labels) <= _LABELS else f"{shown} / {len(labels) - _LABELS} more"


def _shortened(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else f"{text[:longest]} …"


def _marked(words: Sequence[str], places: Sequence[int]) -> Iterator[Marked]:
    """The words around the first of these places, and whether each part of them is at one of them."""
    first, end = max(0, places[0] - _BEFORE), min(len(words), places[0] + _AFTER)
    plain = "… " if first else ""
    for place in range(first, end):
        space = "" if place == first or _joined(words[place - 1], words[place]) else " "
        if place in places:
            if plain + space:
                yield plain + space, False
            yield _shortened(words[place]), True
            plain = ""
        else:
            plain += space + _shortened(words[place])
    if end < len(words):
        plain += " …"
    if plain:
        yield plain, False


def _joined(one: str, other: str) -> bool:
    """Whether there is no space between two words, as between Chinese characters."""
    return bool(one and other) and all(unicodedata.east_asian_width(c) in "WF" for c in (one[-1], other[0]))
