"""The columns that a task asks its rows for, told as missing in the same words before a run and in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import islice

from kdspec.diagnostics.diagnostic import closest, excerpt
from kdspec.diagnostics.fault import Fault

_MANY = 20

ColumnPlace = tuple[str | int, ...]
"""The keys that lead to a parameter which names a column."""


def no_column(names: Collection[str], split: str, column: str, at: ColumnPlace) -> Fault:
    """The fault of a split that has the columns `names`, but not `column`, which the task's parameter `at` asks for."""
    near = closest(column, names)
    known = ", ".join(f"`{excerpt(name)}`" for name in islice(names, _MANY)) or "none"
    question = f"did you mean `{near}`? " if near else ""
    message = f"the split `{split}` has no column `{excerpt(column)}`"
    fix = (column, near) if near else None
    return Fault("KD312", message, at, help=f"{question}the columns are {known}", fix=fix)


def missing(
    splits: Mapping[str, Collection[str]], inputs: Mapping[ColumnPlace, str], label: Mapping[ColumnPlace, str]
) -> Iterator[Fault]:
    """A fault for each parameter whose column a split lacks. Only `train` must have that of the label."""
    told: set[ColumnPlace] = set()
    for split, names in splits.items():
        wanted = {**inputs, **(label if split == "train" else {})}
        for at, column in wanted.items():
            if column not in names and at not in told:
                told.add(at)
                yield no_column(names, split, column, at)
