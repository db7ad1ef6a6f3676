"""When answers are called guesses, and when they are right in another order of the classes."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdspec.engine.preflight.chance import SURE, at_least, at_most, by_chance, other_order, worse_than_one_class


@given(st.integers(1, 200), st.data())
def test_the_two_tails_are_those_of_the_binomial_distribution(rows, data):
    right = data.draw(st.integers(0, rows))
    probability = data.draw(st.floats(0.01, 0.99))
    one_of_them = at_most(right, rows, probability) + at_least(right + 1, rows, probability)
    assert one_of_them == pytest.approx(1, abs=1e-9)


@given(st.integers(1, 300), st.integers(2, 20))
def test_a_teacher_half_way_to_knowing_all_is_stopped_by_accident_less_than_once_in_a_thousand(rows, classes):
    chance = 1 / classes
    stopped = [right for right in range(rows + 1) if by_chance(right, rows, classes)]
    assert all(right <= rows * chance for right in stopped)
    if stopped:
        assert at_most(max(stopped), rows, (1 + chance) / 2) < 1e-3


@pytest.mark.parametrize(
    ("right", "rows", "classes", "stops"),
    [(1, 3, 3, False), (3, 8, 2, False), (20, 60, 3, True), (0, 12, 3, True), (21, 60, 3, False), (150, 300, 2, True)],
)
def test_few_rows_or_a_little_more_than_chance_do_not_stop(right, rows, classes, stops):
    assert by_chance(right, rows, classes) == stops


@pytest.mark.parametrize(
    ("right", "rows", "most", "told"),
    [(1, 2, 2, False), (50, 100, 90, True), (88, 100, 90, False), (95, 100, 90, False)],
)
def test_one_class_for_all_must_be_better_by_more_than_an_accident(right, rows, most, told):
    assert worse_than_one_class(right, rows, most) == told


def counts(order, rows, wrong, generator):
    """The answers to `rows` rows of each class by a teacher whose logits have another order; some are random."""
    found = Counter()
    for number, answer in enumerate(order):
        for row in range(rows):
            found[number, generator.randrange(len(order)) if row < wrong else answer] += 1
    return found


def pairs(table):
    """The counts that are not 0, by the class and the answer."""
    return {(number, answer): times for number, row in enumerate(table) for answer, times in enumerate(row) if times}


@given(
    st.integers(2, 8).flatmap(lambda size: st.permutations(range(size))),
    st.integers(20, 60),
    st.integers(0, 3),
    st.randoms(),
)
def test_another_order_of_the_classes_is_found_and_their_own_is_not(order, rows, wrong, generator):
    found = other_order(counts(order, rows, wrong, generator), len(order))
    if list(order) == sorted(order):
        assert found is None
    else:
        assert found is not None
        assert [found.places[answer] for answer in order] == list(range(len(order)))
        assert found.right >= (rows - wrong) * len(order)


def test_guesses_are_seldom_in_an_order():
    generator, tries, found = random.Random(0), 3000, 0
    for _ in range(tries):
        classes, rows = generator.randint(2, 10), generator.randint(1, 100)
        guesses = Counter((generator.randrange(classes), generator.randrange(classes)) for _ in range(rows))
        found += other_order(guesses, classes) is not None
    assert found <= SURE * tries


def test_an_order_that_is_partly_that_of_the_logits_is_found_too():
    found = other_order(pairs([[20, 0, 0], [0, 1, 19], [0, 20, 0]]), 3)
    assert found is not None
    assert (found.places, found.right) == ((0, 2, 1), 59)


def test_two_classes_with_one_answer_have_no_order():
    assert other_order(pairs([[0, 30, 0], [0, 30, 0], [0, 0, 30]]), 3) is None
