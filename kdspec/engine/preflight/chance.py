"""Judges the answers of a teacher by counting: against chance, against one class for all, and in another order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

_NEARLY_ALL = 0.8
_FEW = 20
"""Fewer rows do not tell how frequent a class is."""
SURE = 1e-3
"""The probability below which an accident is ruled out."""

Confusion = Mapping[tuple[int, int], int]
"""How often a class was answered to another one, or to itself: by the class and the answer, for those that occur."""


@dataclass(frozen=True)
class OtherOrder:
    """An order of the classes in which the answers would be right."""

    places: tuple[int, ...]
    """For each logit the class that it stands for."""
    right: int
    """Right answers in that order."""


def at_most(right: int, rows: int, probability: float) -> float:
    """The probability of at most `right` right answers to `rows` rows, if each is right with this probability."""
    return math.fsum(_exactly(number, rows, probability) for number in range(right + 1))


def at_least(right: int, rows: int, probability: float) -> float:
    """The probability of at least `right` right answers."""
    return math.fsum(_exactly(number, rows, probability) for number in range(right, rows + 1))


def by_chance(right: int, rows: int, classes: int) -> bool:
    """Whether answers are no better than guesses among the classes, and that is no accident of few rows.

    The accident is ruled out against a teacher half-way between guessing and knowing all.
    """
    chance = 1 / classes
    return right <= rows * chance and at_most(right, rows, (1 + chance) / 2) < SURE


def worse_than_one_class(right: int, rows: int, most_frequent: int) -> bool:
    """Whether answering the most frequent class always would be right more often, and that is no accident."""
    return rows >= _FEW and right < most_frequent and at_most(right, rows, most_frequent / rows) < 0.05


def by_class(confusion: Confusion) -> Counter[int]:
    """How often each class was asked."""
    asked: Counter[int] = Counter()
    for (number, _), times in confusion.items():
        asked[number] += times
    return asked


def other_order(confusion: Confusion, classes: int) -> OtherOrder | None:
    """The order of the classes that makes nearly all answers right, if that of the logits does not.

    None if there is none: answers to a class are spread, or two classes have the same answer.
    """
    asked = by_class(confusion)
    most: dict[int, int] = {}
    answer: dict[int, int] = {}
    for (number, answered), times in sorted(confusion.items()):  # of equally frequent answers the first class
        if times > most.get(number, 0):
            most[number], answer[number] = times, answered
    if len(set(answer.values())) < len(answer):
        return None
    moved = [number for number in answer if answer[number] != number]
    rows = sum(asked[number] for number in moved)
    if not moved or any(most[number] < _NEARLY_ALL * asked[number] for number in moved):
        return None
    found = sum(most[number] for number in moved)
    # As improbable as it is that a teacher without a clue would answer like this in some order.
    if at_least(found, rows, 1 / classes) * min(math.factorial(len(moved)), 1e6) >= SURE:
        return None
    places = {logit: number for number, logit in answer.items()}
    taken = set(places.values())
    left = iter(number for number in range(classes) if number not in taken)
    order = tuple(places[logit] if logit in places else next(left) for logit in range(classes))
    return OtherOrder(order, sum(most.values()))


def _exactly(right: int, rows: int, probability: float) -> float:
    if probability <= 0 or probability >= 1:
        return float(right == (rows if probability >= 1 else 0))
    ways = math.lgamma(rows + 1) - math.lgamma(right + 1) - math.lgamma(rows - right + 1)
    return math.exp(ways + right * math.log(probability) + (rows - right) * math.log1p(-probability))
