"""A number for each class in a recorded answer: a list in their order, a mapping, or a column for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kdspec.data.answers.recorded.answer_classes import ClassNames
from kdspec.data.answers.recorded.cells import AnswerCell, finite, without_null
from kdspec.data.numbers import described
from kdspec.diagnostics.diagnostic import listed

Named = Sequence[tuple[str, float]]
"""The values of an answer by their names of the classes."""


def names_in(value: Any) -> Iterable[str]:
    """Their names of classes in an answer; a list has none."""
    return without_null(value) if isinstance(value, Mapping) else ()


def named_values(cell: AnswerCell, value: Any, names: ClassNames, what: str) -> Named:
    """The values of an answer with their names, each a finite number, at least one for each class of the task.

    Args:
        cell: where it stands.
        value: a mapping, or a list in the order of `labels` in the model, or of the task's classes without it.
        names: the classes.
        what: what a value should be, such as `a probability`.

    Raises:
        Fault: KD502 for other values, and for a list of another length; KD403 for a name that is no class.
    """
    if isinstance(value, Mapping):
        given = without_null(value)
        for name in given:
            if name not in names.of:
                raise names.unknown(name, cell.of(name), given)
        found = [(name, finite(cell.of(name), item, what, name)) for name, item in given.items()]
        lacking = names.lacking({names.of[name] for name, _ in found}) if names.known else []
        if lacking:
            with_column = next(
                (name for name in cell.columns if names.of.get(name) == names.ours.index(lacking[0])), ""
            )
            where = cell.of(with_column) if with_column else cell
            message = f"has no value for {listed(lacking)} in {where.shown}"
            help_ = "each class needs one; write null for the whole answer of a row that has none"
            raise where.fault(message, help_)
        return found
    order = list(names.labels) or list(names.ours)
    if isinstance(value, (list, tuple)):
        if len(value) != len(order):
            has = f"has {len(value)} {'value' if len(value) == 1 else 'values'} in {cell.shown}"
            message = (
                f"{has}, and {'`labels` names' if names.labels else f'task `{names.task}` has'} {len(order)} classes"
            )
            raise cell.fault(message, f"write one for each, in the order {listed(order)}")
        return [(name, finite(cell, item, what, name)) for name, item in zip(order, value, strict=True)]
    if len(order) == 1 and not isinstance(value, bool):
        return [(order[0], finite(cell, value, what))]
    message = f"has {described(value)} in {cell.shown}, not a list of numbers or a mapping of classes"
    raise cell.fault(message, f"write a number for each of {listed(order)}")


def added(found: Named, names: ClassNames) -> list[float]:
    """The sum of the values for each class of the task."""
    sums = [0.0] * len(names.ours)
    for name, value in found:
        sums[names.place(name)] += value
    return sums
