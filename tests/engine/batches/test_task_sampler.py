"""The task of each micro-batch: a function of the seed and the step, and each task's rows in an order of their own."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdspec.api.spec.task_sampling import Sampling
from kdspec.engine.batches.length_split import LengthSplit
from kdspec.engine.batches.sampler import DataOrder
from kdspec.engine.batches.task_sampler import _BLOCK, SingleTask, TaskMixture


def mixture(rows=None, *, seed=7, accumulate=1, batch_size=2, world=1, length_split=None, **sampling):
    rows = rows or {"a": 9, "b": 4}
    orders = {
        task: DataOrder(count, batch_size, 1, seed + count, length_split=length_split) for task, count in rows.items()
    }
    shares = Sampling(**sampling).probabilities(rows, batch_size)
    return TaskMixture(orders, shares, accumulate, seed, world=world)


def test_any_step_can_be_asked_for_first():
    """A resumed run begins in the middle, and must see what an uninterrupted one sees."""
    for accumulate in (1, 3):
        one = mixture(accumulate=accumulate)
        straight = [one.of(step) for step in range(60)]
        for step in (59, 0, 31):
            assert mixture(accumulate=accumulate).of(step) == straight[step]
        assert mixture(accumulate=accumulate, seed=8).of(5) != straight[5] or one.of(6) != mixture(seed=8).of(6)


def test_steps_beyond_a_block_can_be_asked_for_too():
    one, other = mixture(), mixture()
    for step in range(_BLOCK - 2, _BLOCK + 3):
        one.of(step)
    counted = Counter(draw.task for step in range(_BLOCK + 3) for draw in other.of(step))
    assert one.of(_BLOCK + 2) == other.of(_BLOCK + 2)
    last = other.of(_BLOCK + 2)[0]
    assert last.rows == other.orders[last.task].micro_batches(counted[last.task] - 1)[0]


def test_each_task_goes_through_its_rows_epoch_by_epoch():
    one = mixture()
    draws = [draw for step in range(200) for draw in one.of(step)]
    for task, count, batches in (("a", 9, 5), ("b", 4, 2)):
        mine = [draw for draw in draws if draw.task == task]
        for epoch in range(2):
            first = mine[epoch * batches : (epoch + 1) * batches]
            assert sorted(row for draw in first for row in draw.rows) == list(range(count))
            assert {draw.epoch for draw in first} == {epoch}


def test_micro_batches_of_a_step_have_tasks_of_their_own():
    whole, cut = mixture(), mixture(accumulate=4)
    assert cut.of(3) == [draw for step in range(12, 16) for draw in whole.of(step)]
    assert any(len({draw.task for draw in cut.of(step)}) == 2 for step in range(5))


@given(
    rows=st.dictionaries(st.sampled_from("abc"), st.integers(1, 20), min_size=2),
    accumulate=st.integers(1, 5),
    batch_size=st.integers(1, 4),
    world=st.integers(1, 4),
    split=st.booleans(),
    tau=st.sampled_from([0.0, 1.0]),
)
def test_a_step_has_the_same_rows_for_any_number_of_ranks(rows, accumulate, batch_size, world, split, tau):
    lengths = np.array([3, 1, 9, 4] * 5)
    length_split = LengthSplit(lengths=lengths, cost=2) if split else None
    alone = mixture(rows, accumulate=accumulate, batch_size=batch_size, tau=tau)
    shared = mixture(
        rows, accumulate=accumulate, batch_size=batch_size, tau=tau, world=world, length_split=length_split
    )
    assert (shared.steps_per_epoch, shared.probabilities) == (alone.steps_per_epoch, alone.probabilities)
    for step in range(4):
        expected = sorted((draw.task, draw.epoch, row) for draw in alone.of(step) for row in draw.rows)
        ranks = [shared.of(step, rank) for rank in range(world)]
        found = sorted((draw.task, draw.epoch, row) for draws in ranks for draw in draws for row in draw.rows)
        assert found == expected
        assert len({tuple((draw.task, draw.epoch) for draw in draws) for draws in ranks}) == 1
        assert shared.shares(step) == alone.shares(step)
        if not split and accumulate % world == 0:
            assert {sum(bool(draw.rows) for draw in draws) for draws in ranks} == {accumulate // world}


def test_a_task_has_the_share_of_its_micro_batches():
    one = mixture(accumulate=4, tau=0.0)
    for step in range(20):
        tasks = [draw.task for draw in one.of(step)]
        assert one.shares(step) == {task: tasks.count(task) / 4 for task in dict.fromkeys(tasks)}
    assert SingleTask("a", DataOrder(9, 2, 2, 3)).shares(1) == {"a": 1.0}


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({}, 0.75),
        ({"tau": 0.0}, 0.5),
        ({"tau": 0.5}, 3**0.5 / (3**0.5 + 1)),
        ({"tau": 2.0}, 0.9),
        ({"size": "examples"}, 90 / 119),
        ({"proportions": {"a": 1.0, "b": 4.0}}, 0.2),
    ],
)
def test_tasks_are_sampled_in_the_proportions_of_sampling(sampling, expected):
    one = mixture({"a": 90, "b": 29}, batch_size=10, **sampling)  # 9 batches and 3
    assert one.probabilities["a"] == pytest.approx(expected)
    drawn = Counter(one.of(step)[0].task for step in range(4000))
    assert drawn["a"] / 4000 == pytest.approx(expected, abs=0.025)


def test_an_epoch_is_as_many_micro_batches_as_all_tasks_have():
    one = mixture({"a": 9, "b": 4}, accumulate=3)
    assert (one.batches, one.steps_per_epoch) == (5 + 2, 3)
    assert [one.epoch_of(step) for step in range(7)] == [0, 0, 0, 1, 1, 1, 2]


def test_a_large_exponent_does_not_overflow():
    shares = Sampling(tau=100.0).probabilities({"a": 10**9, "b": 10}, 1)
    assert shares == {"a": 1.0, "b": 0.0}
    assert Sampling(tau=0.0).probabilities({"a": 10**9, "b": 10}, 1) == {"a": 0.5, "b": 0.5}


def test_one_task_is_its_order():
    order = DataOrder(9, 2, 2, 3)
    one = SingleTask("a", order)
    assert [draw.rows for draw in one.of(1)] == order.micro_batches(1)
    assert (one.steps_per_epoch, one.epoch_of(4)) == (3, 1)
    assert one.of(4)[0].epoch == 1
