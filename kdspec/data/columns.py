"""Errors for columns that a task needs and its rows lack, with the same message before a run and during it.

An error lists the names of columns only if the file looks like a table that the spec asks about: any file may be named as data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from typing import Any

from kdspec.api.component import Component
from kdspec.diagnostics.diagnostic import did_you_mean, excerpt, folded_name, listed, near
from kdspec.diagnostics.fault import Fault

TEXTS = (
    *("text", "sentence", "body", "message", "comment", "review", "content", "document", "utterance", "query"),
    *("question", "headline", "title", "description", "abstract", "tweet", "post", "input", "snippet"),
)
"""Usual names of columns of texts."""
LABELS = (
    *("label", "labels", "class", "category", "categories", "target", "sentiment", "intent", "topic", "queue"),
    *("tag", "tags", "rating", "score", "stars", "polarity", "emotion", "y", "gold", "answer"),
)
"""Usual names of columns of labels."""
PAIRS = (
    *(("premise", "hypothesis"), ("sentence1", "sentence2"), ("sentence_a", "sentence_b"), ("text_a", "text_b")),
    *(("text1", "text2"), ("question1", "question2"), ("query", "passage"), ("query", "document"), ("query", "text")),
    *(("question", "passage"), ("question", "sentence"), ("question", "context"), ("claim", "evidence")),
)
"""Usual names of two columns of texts."""
MANY_COLUMNS = 20
"""Columns that a message lists: more than of other names, since the column that is meant is among them."""

_USUAL = frozenset({*TEXTS, *LABELS, *chain.from_iterable(PAIRS), "id", "idx", "index", "tokens", "words", "answers"})
_NAME = re.compile(r"[^\W\d][\w .-]{0,39}")
_NAMELESS = "Unnamed: "
"""How pandas calls columns without a name."""
_LABELLED = ("train", "validation")
"""The splits with labels: without those of `validation` no metric selects the best student."""

ColumnPlace = tuple[str | int, ...]
"""The path of a parameter that names a column."""


def named(task: Component) -> frozenset[str]:
    """All texts among the parameters of a task, its data aside: the columns that it may ask for are among them."""
    return frozenset(_texts(task.model_dump(exclude={"data"})))


def no_column(
    names: Collection[str],
    split: str,
    column: str,
    at: ColumnPlace,
    *,
    elsewhere: bool = False,
    asked: Collection[str] = (),
) -> Fault:
    """The fault of a split with the columns `names` and without `column`, which the task's parameter `at` names.

    If the column is `elsewhere`, in another split, its name is right, and no other name is proposed. The error lists the
    columns if one of them has a usual name, is among those that are `asked` for, or is near to `column`.
    """
    mark = _other_delimiter(names, column)
    wanted = {folded_name(name) for name in (column, *asked) if name.strip()} | _USUAL
    is_table = mark is not None or any(folded_name(name) in wanted for name in names)
    guesses = () if elsewhere else near(column, [name for name in names if is_table or _NAME.fullmatch(name.strip())])
    if is_table or guesses or not names:
        shown = f"the columns are {listed([*names], MANY_COLUMNS) or 'none'}"
    else:
        them, count = ("it", "1 column") if len(names) == 1 else ("them", f"{len(names)} columns")
        shown = f"the file has {count}, not shown since the spec names none of them: look {them} up in the file"
    question = f"{did_you_mean(guesses)} " if guesses else ""
    if not column.strip() or column.startswith(_NAMELESS):
        guesses, question = (), "a column without a name cannot be read: write its name into the first line; "
    if mark:
        guesses, question = (), f"the fields are separated by `{mark}`: write `delimiter: {json.dumps(mark)}`; "
    message = f"the split `{split}` has no column `{excerpt(column)}`"
    fix = (column, guesses[0]) if len(guesses) == 1 else None
    return Fault("KD312", message, at, help=f"{question}{shown}", fix=fix)


def _other_delimiter(names: Collection[str], column: str) -> str | None:
    """What separates the columns, if all of them were read as one whose parts include the column."""
    if len(names) != 1:
        return None
    parts = {mark: {part.strip(' "') for part in next(iter(names)).split(mark)} for mark in (",", ";", "\t", "|")}
    return next((mark for mark, found in parts.items() if len(found) > 1 and column in found), None)


def missing(
    splits: Mapping[str, Collection[str]],
    inputs: Mapping[ColumnPlace, str],
    label: Mapping[ColumnPlace, str],
    asked: Collection[str] = (),
) -> Iterator[Fault]:
    """A fault for each parameter that names a missing column. `train` and `validation` must have the label's column.

    Args:
        splits: the columns of each split.
        inputs: the columns of the texts, by the parameter that names each.
        label: those of the labels.
        asked: other columns that the spec names.
    """
    reported: set[ColumnPlace] = set()
    every = {*inputs.values(), *label.values(), *asked}
    for split, names in splits.items():
        wanted = {**inputs, **(label if split in _LABELLED else {})}
        for at, column in wanted.items():
            if column not in names and at not in reported:
                reported.add(at)
                elsewhere = column in splits.get("train", ())
                yield no_column(names, split, column, at, elsewhere=elsewhere, asked=every)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
