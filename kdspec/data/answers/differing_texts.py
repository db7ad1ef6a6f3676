"""Rows on which a model and its teacher differ most where answers are texts, orders or similarities: plain data for the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kdspec.data.answers.error_analysis import DIFFERING


class GivenAnswer(NamedTuple):
    """The answer of a model to a row."""

    text: str
    score: float | None = None
    """What the model gives it, in its own units; None without one."""
    right: bool | None = None
    """Whether it is a right one; None if that is not known."""


@dataclass(frozen=True, kw_only=True)
class DifferingAnswers:
    """A row on which the answers of a model and of its teacher differ."""

    texts: Sequence[str]
    """What is shown of the row; the report shortens it."""
    mine: GivenAnswer
    """Of the model."""
    teachers: GivenAnswer
    """Of its teacher."""
    row: int | None = None
    """The number of the row in its split; None for what is no row."""
    labels: Sequence[str] = ()
    """The right answers; empty if they are not known."""
    about: str = ""
    """How far the two are apart, in a few words."""

    def data(self) -> dict[str, Any]:
        """The row as `Evaluator.error_analysis` has it."""
        label = list(self.labels) or None
        mine, teachers = ((each.text, _finite(each.score)) for each in (self.mine, self.teachers))
        return {
            "row": self.row, "texts": list(self.texts), "about": self.about, "answers": [["", label, *mine, *teachers]],
            "right": [[self.mine.right, self.teachers.right]],
        }  # fmt: skip


def farthest(distances: Sequence[float]) -> list[int]:
    """The places of the largest distances, at most `DIFFERING`: the largest first, of equal ones the first.

    Distances of 0 and those that are not finite are left out.
    """
    apart = {place: round(each, 6) for place, each in enumerate(distances) if math.isfinite(each)}
    kept = (place for place in sorted(apart, key=lambda place: -apart[place]) if apart[place] > 0)
    return [place for place, _ in zip(kept, range(DIFFERING), strict=False)]


def _finite(score: float | None) -> float | None:
    # JSON has no other numbers.
    return None if score is None or not math.isfinite(score) else round(score, 6)
