"""Errors for columns that a task needs and its rows lack, with the same message before a run and during it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from itertools import islice

from kdspec.diagnostics.diagnostic import did_you_mean, excerpt, near
from kdspec.diagnostics.fault import Fault

_MANY = 20
_NAMELESS = "Unnamed: "
"""How pandas calls columns without a name."""
_LABELLED = ("train", "validation")
"""The splits with labels: without those of `validation` no metric selects the best student."""

ColumnPlace = tuple[str | int, ...]
"""The path of a parameter that names a column."""


def no_column(names: Collection[str], split: str, column: str, at: ColumnPlace, *, elsewhere: bool = False) -> Fault:
    """The fault of a split with the columns `names` and without `column`, which the task's parameter `at` names.

    If the column is `elsewhere`, in another split, its name is right, and no other name is proposed.
    """
    guesses = () if elsewhere else near(column, names)
    known = ", ".join(f"`{excerpt(name)}`" for name in islice(names, _MANY)) or "none"
    question = f"{did_you_mean(guesses)} " if guesses else ""
    if not column.strip() or column.startswith(_NAMELESS):
        guesses, question = (), "a column without a name cannot be read: write its name into the first line; "
    if mark := _other_delimiter(names, column):
        guesses, question = (), f"the fields are separated by `{mark}`: write `delimiter: {json.dumps(mark)}`; "
    message = f"the split `{split}` has no column `{excerpt(column)}`"
    fix = (column, guesses[0]) if len(guesses) == 1 else None
    return Fault("KD312", message, at, help=f"{question}the columns are {known}", fix=fix)


def _other_delimiter(names: Collection[str], column: str) -> str | None:
    """What separates the columns, if all of them were read as one whose parts include the column."""
    if len(names) != 1:
        return None
    parts = {mark: {part.strip(' "') for part in next(iter(names)).split(mark)} for mark in (",", ";", "\t", "|")}
    return next((mark for mark, found in parts.items() if len(found) > 1 and column in found), None)


def missing(
    splits: Mapping[str, Collection[str]], inputs: Mapping[ColumnPlace, str], label: Mapping[ColumnPlace, str]
) -> Iterator[Fault]:
    """A fault for each parameter that names a missing column. `train` and `validation` must have the label's column."""
    reported: set[ColumnPlace] = set()
    for split, names in splits.items():
        wanted = {**inputs, **(label if split in _LABELLED else {})}
        for at, column in wanted.items():
            if column not in names and at not in reported:
                reported.add(at)
                yield no_column(names, split, column, at, elsewhere=column in splits.get("train", ()))
