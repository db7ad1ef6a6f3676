"""Recorded logits of classes or labels, and recorded numbers of a regression."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from kdspec.data.answers.recorded.answer_classes import ClassNames
from kdspec.data.answers.recorded.cells import AnswerCell
from kdspec.data.answers.recorded.class_values import named_values, names_in
from kdspec.data.answers.recorded.log_space import log_sum
from kdspec.diagnostics.fault import Fault

_FEW = 10
_ROUNDED = 1e-3


class RecordedLogits:
    """Reads logits as they are; of two classes that are one for the task log(exp + exp), as for their probabilities.

    Args:
        what: what a value is, for messages.
        suspects: whether numbers from 0 to 1 may be probabilities by mistake.
        one_right: whether one of the classes is right, so that probabilities would sum to 1.
    """

    def __init__(self, what: str, *, suspects: bool, one_right: bool) -> None:
        self._what, self._suspects, self._one_right = what, suspects, one_right
        self._answers = 0
        self._first: AnswerCell | None = None

    def names(self, value: Any) -> Iterable[str]:
        """Their names of classes in an answer."""
        return names_in(value)

    def read(self, cell: AnswerCell, value: Any, names: ClassNames) -> list[float]:
        """The logits of an answer.

        Raises:
            Fault: KD502 for values that are not finite numbers, KD403 for a name that is no class.
        """
        by_class: list[list[float]] = [[] for _ in names.ours]
        for name, number in named_values(cell, value, names, self._what):
            by_class[names.place(name)].append(number)
        found = [log_sum(each) for each in by_class]
        self._first, self._answers = self._first or cell, self._answers + 1
        inside = all(0 <= each <= 1 for each in found)
        self._suspects &= inside and (not self._one_right or abs(math.fsum(found) - 1) <= _ROUNDED)
        return found

    def report(self, rows: int) -> Iterator[Fault]:
        """The warning of probabilities in place of logits."""
        del rows
        cell = self._first
        if cell is not None and self._suspects and (self._one_right or self._answers >= _FEW):
            sums = " and sum to 1" if self._one_right else ""
            message = (
                f"all logits of `{cell.split}` in {cell.shown} are between 0 and 1{sums}: they look like probabilities"
            )
            help_ = "write `probabilities` in place of `logits`: a softmax of probabilities is nearly uniform"
            yield Fault("KD316", message, cell.at, help=help_)
