from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kdspec.engine.batches.length_split import LengthSplit, spread

LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=8)
MICRO_BATCHES = st.lists(st.lists(st.integers(), min_size=1, max_size=5), max_size=5)


def length_split(lengths: list[int], cost: int = 0, tokens: int | None = None) -> LengthSplit:
    return LengthSplit(lengths=np.array(lengths), cost=cost, tokens=tokens)


def price(lengths: list[int], micro_batches: list[list[int]], cost: int) -> int:
    return sum(max(lengths[row] for row in micro) * len(micro) + cost for micro in micro_batches)


@given(LENGTHS, st.integers(0, 40), st.integers(1, 8))
def test_micro_batches_have_every_row_once_and_at_most_the_allowed_rows(lengths, cost, most):
    micro_batches = length_split(lengths, cost).split(range(len(lengths)), most)
    assert sorted(itertools.chain(*micro_batches)) == list(range(len(lengths)))
    assert all(1 <= len(micro) <= most for micro in micro_batches)
    in_turn = [lengths[row] for micro in micro_batches for row in micro]
    assert in_turn == sorted(lengths, reverse=True)


@settings(max_examples=50)
@given(LENGTHS, st.integers(0, 40), st.integers(1, 8), st.none() | st.integers(1, 60))
def test_no_other_split_costs_less(lengths, cost, most, tokens):
    rows = sorted(range(len(lengths)), key=lambda row: -lengths[row])

    def allowed(micro: list[int]) -> bool:
        if tokens is None:
            return len(micro) <= most
        return len(micro) == 1 or max(lengths[row] for row in micro) * len(micro) <= tokens

    every = []
    for places in itertools.product((False, True), repeat=len(rows) - 1):
        ends = [0, *(place + 1 for place, cut in enumerate(places) if cut), len(rows)]
        micro_batches = [rows[first:end] for first, end in itertools.pairwise(ends)]
        if all(map(allowed, micro_batches)):
            every.append(price(lengths, micro_batches, cost))
    found = length_split(lengths, cost, tokens).split(range(len(lengths)), most)
    assert all(map(allowed, found))
    assert price(lengths, found, cost) == min(every)


def test_rows_of_one_length_are_not_split():
    assert length_split([7] * 6, cost=1).split(range(6), 6) == [[0, 1, 2, 3, 4, 5]]


def test_rows_are_not_split_if_it_costs_more_than_it_saves():
    assert len(length_split([10, 2, 2], cost=15).split(range(3), 3)) == 2
    assert len(length_split([10, 2, 2], cost=17).split(range(3), 3)) == 1


def test_a_row_longer_than_the_tokens_allowed_is_alone():
    assert length_split([9, 2, 2], tokens=4).split(range(3), 1) == [[0], [1, 2]]


def test_no_rows_give_no_micro_batches():
    assert length_split([1]).split([], 4) == []


@given(MICRO_BATCHES, st.integers(0, 12))
def test_micro_batches_are_spread_without_losing_a_row(micro_batches, more):
    count = len(micro_batches) + more
    made = spread(micro_batches, count)
    assert len(made) == count
    assert list(itertools.chain(*made)) == list(itertools.chain(*micro_batches))
    full = [micro for micro in made if micro]
    assert made[: len(full)] == full
    assert len(full) == min(count, sum(map(len, micro_batches)))
