"""Recorded probabilities of classes, or of labels that are independent of one another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from kdspec.data.answers.recorded.answer_classes import ClassNames
from kdspec.data.answers.recorded.cells import AnswerCell
from kdspec.data.answers.recorded.class_values import Named, added, named_values, names_in
from kdspec.data.answers.recorded.log_space import logit, logits_of
from kdspec.data.class_match import shown
from kdspec.diagnostics.fault import Fault

EXACT, NEAR = 1e-3, 2e-2
"""How far a sum may be from 1: rounding of the printed digits, and what is worth a note."""


class Probabilities:
    """Reads probabilities as logits: log p of classes of which one is right, log p - log(1 - p) of independent labels.

    Args:
        independent: whether each label has a probability of its own.
    """

    def __init__(self, *, independent: bool) -> None:
        self._independent = independent
        self._near: list[tuple[AnswerCell, float]] = []

    def names(self, value: Any) -> Iterable[str]:
        """Their names of classes in an answer."""
        return names_in(value)

    def read(self, cell: AnswerCell, value: Any, names: ClassNames) -> list[float]:
        """The logits of an answer.

        Raises:
            Fault: KD502 for what are no probabilities, or do not sum to 1; KD403 for a name that is no class.
        """
        found = named_values(cell, value, names, "a probability")
        self._bounded(cell, found)
        summed = added(found, names)
        if self._independent:
            return [logit(each) for each in summed]
        total = math.fsum(summed)
        if abs(total - 1) > NEAR:
            message = f"has probabilities in {cell.shown} that sum to {total:.4g}, not to 1"
            help_ = "divide each by the sum if they are of all classes; of the most likely ones alone write `top_k`, as logarithms"
            raise cell.fault(message, help_)
        if abs(total - 1) > EXACT:
            self._near.append((cell, total))
        return logits_of(summed)

    def report(self, rows: int) -> Iterator[Fault]:
        """The note of sums that are near 1."""
        if self._near:
            cell, every = self._near[0][0], {each.row for each, _ in self._near}
            sums = [total for _, total in self._near]
            message = f"the probabilities of {len(every):,} of {rows:,} rows of `{cell.split}` in {cell.shown} sum to {min(sums):.4g} to {max(sums):.4g}"
            help_ = f"each is divided by the sum of its row; the first is row {cell.row + 1}"
            yield Fault("KD316", message, cell.at, help=help_, severity="note")

    def _bounded(self, cell: AnswerCell, found: Named) -> None:
        """Raise the fault of a value that is below 0 or above 1."""
        below = next((each for each in found if each[1] < 0), None)
        if below is not None:
            here = cell.of(below[0])
            message = f"has {below[1]:g} for {shown(below[0])} in {here.shown}: a probability is not negative"
            raise here.fault(message, "logits and log-probabilities are named in `logits`, in place of `probabilities`")
        above = next((each for each in found if each[1] > 1 + EXACT), None)
        if above is None:
            return
        here, total = cell.of(above[0]), math.fsum(value for _, value in found)
        message = f"has {above[1]:g} for {shown(above[0])} in {here.shown}, and a probability is at most 1"
        percent = abs(total / 100 - 1) <= NEAR or (self._independent and above[1] <= 100)
        help_ = (
            "it looks like percent: divide by 100" if percent else "divide each by the sum, or name logits in `logits`"
        )
        raise here.fault(message, help_)
