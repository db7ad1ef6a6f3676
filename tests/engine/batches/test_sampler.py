from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdspec.engine.batches.length_split import LengthSplit
from kdspec.engine.batches.sampler import DataOrder, fold, isolated_random, reseed

MOST_ROWS = 60
LENGTHS = np.random.default_rng(0).integers(1, 30, MOST_ROWS)
ORDERS = st.builds(
    DataOrder,
    rows=st.integers(1, MOST_ROWS),
    batch_size=st.integers(1, 9),
    accumulate=st.integers(1, 4),
    seed=st.integers(0, 2**63),
    shuffle=st.booleans(),
    world=st.integers(1, 4),
    grouped=st.sampled_from([None, LENGTHS]),
)
CUTTINGS = st.builds(
    LengthSplit, lengths=st.just(LENGTHS), cost=st.integers(0, 60), tokens=st.none() | st.integers(1, 90)
)


def epoch_rows(order: DataOrder, epoch: int) -> list[int]:
    steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
    return [
        row
        for step in steps
        for rank in range(order.world)
        for batch in order.micro_batches(step, rank)
        for row in batch
    ]


def copy_of(order: DataOrder, **changes: Any) -> DataOrder:
    names = ("rows", "batch_size", "accumulate", "seed", "shuffle", "world", "grouped", "length_split")
    return DataOrder(**{name: getattr(order, name) for name in names} | changes)


def draws() -> tuple[float, float, float]:
    return torch.rand(()).item(), random.random(), float(np.random.rand())  # noqa: NPY002 - the state that is shared is what is tested


@pytest.mark.slow
def test_fold_is_the_same_in_every_process():
    """Python's own hash is salted by PYTHONHASHSEED; a resume in another process must not be."""
    code = "from kdspec.engine.batches.sampler import fold; print(fold(7, 'epoch', 3))"
    salt = str(int(os.environ.get("PYTHONHASHSEED", "random") == "0"))  # another one than here
    environment = {"PYTHONHASHSEED": salt, "PYTHONPATH": ":".join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout
    assert answer == f"{fold(7, 'epoch', 3)}\n"


def test_fold_is_frozen():
    """Checkpoints of a released version rest on this value."""
    assert fold(0) == 5621864261735219286
    assert fold(42, "epoch", 0) == 3637974975726259375


@given(st.lists(st.integers() | st.text(), max_size=4), st.lists(st.integers() | st.text(), max_size=4))
def test_fold_differs_for_different_parts(one, two):
    assert 0 <= fold(*one) < 2**63
    assert (fold(*one) == fold(*two)) == (one == two)


@pytest.mark.parametrize("part", [1.0, True, None, (1,), np.int64(1)])
def test_fold_refuses_parts_without_one_canonical_form(part):
    with pytest.raises(AssertionError):
        fold(part)


def test_reseed_seeds_torch_random_and_numpy():
    reseed(1, 2, 3, 4)
    first = draws()
    reseed(1, 2, 3, 4)
    assert draws() == first


@pytest.mark.parametrize("other", [(0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0)])
def test_reseed_depends_on_each_argument(other):
    reseed(1, 2, 3, 4)
    first = draws()
    reseed(*other)
    assert all(a != b for a, b in zip(draws(), first, strict=True))


def test_isolated_random_leaves_every_generator_as_it_was():
    reseed(0, 0, 0, 0)
    expected = draws()
    reseed(0, 0, 0, 0)
    with isolated_random():
        draws()
        reseed(9, 9, 9, 9)
    assert draws() == expected


def test_isolated_random_restores_after_an_error():
    reseed(0, 0, 0, 0)
    expected = draws()
    reseed(0, 0, 0, 0)
    with pytest.raises(KeyError), isolated_random():
        _ = {}[draws()]
    assert draws() == expected


@given(ORDERS, st.integers(0, 3))
def test_each_epoch_is_a_permutation(order, epoch):
    """No row is lost or seen twice, whatever the sizes; and so the ranks partition the rows."""
    assert sorted(epoch_rows(order, epoch)) == list(range(order.rows))


@given(ORDERS, st.lists(st.integers(0, 40), min_size=1, max_size=6))
def test_a_step_depends_on_nothing_but_seed_and_step(order, steps):
    """Steps asked for in any order, by one object or by fresh ones, are the same."""
    asked = [order.micro_batches(step) for step in steps]
    assert asked == [copy_of(order).micro_batches(step) for step in steps]


@given(ORDERS, st.integers(0, 40))
def test_every_rank_gets_equally_many_micro_batches(order, step):
    counts = {len(order.micro_batches(step, rank)) for rank in range(order.world)}
    assert len(counts) == 1
    assert 1 <= counts.pop() <= order.accumulate
    assert all(len(batch) <= order.batch_size for batch in order.micro_batches(step))


@given(ORDERS, st.integers(0, 40))
def test_rank_zero_never_gets_an_empty_micro_batch(order, step):
    assert all(order.micro_batches(step, 0))


@given(ORDERS, st.integers(0, 40))
def test_ranks_see_the_rows_that_accumulation_would_see(order, step):
    """A run that moves from two processes to one with twice the accumulation continues with the same steps."""
    alone = copy_of(order, accumulate=order.accumulate * order.world, world=1)
    together = [order.micro_batches(step, rank) for rank in range(order.world)]
    dealt = [batch for turn in zip(*together, strict=True) for batch in turn if batch]
    assert dealt == alone.micro_batches(step)
    assert order.epoch_of(step) == alone.epoch_of(step)


def step_rows(order: DataOrder, step: int) -> list[int]:
    return sorted(row for rank in range(order.world) for batch in order.micro_batches(step, rank) for row in batch)


@given(ORDERS, CUTTINGS, st.integers(0, 40))
def test_splitting_leaves_the_rows_of_each_step_unchanged(order, length_split, step):
    assert step_rows(copy_of(order, length_split=length_split), step) == step_rows(order, step)


@given(ORDERS, CUTTINGS, st.integers(0, 40))
def test_every_rank_gets_equally_many_micro_batches_and_keeps_its_rows(order, length_split, step):
    split = copy_of(order, length_split=length_split)
    assert len({len(split.micro_batches(step, rank)) for rank in range(order.world)}) == 1
    assert all(split.micro_batches(step, 0))
    for rank in range(order.world):
        flat = [sorted(row for batch in each.micro_batches(step, rank) for row in batch) for each in (order, split)]
        assert flat[0] == flat[1]


@given(ORDERS, CUTTINGS, st.integers(0, 40))
def test_the_split_depends_only_on_seed_and_step(order, length_split, step):
    split = copy_of(order, length_split=length_split)
    epoch_rows(split, 2)
    assert split.micro_batches(step) == copy_of(split).micro_batches(step)


def test_a_grouped_step_has_rows_of_similar_length():
    lengths = np.random.default_rng(1).integers(1, 100, 640)
    grouped = DataOrder(640, 8, 2, seed=0, grouped=lengths)
    ranges = [np.ptp(lengths[step_rows(grouped, step)]) for step in range(grouped.steps_per_epoch)]
    assert max(ranges) < 30
    assert min(np.ptp(lengths[step_rows(copy_of(grouped, grouped=None), step)]) for step in range(40)) > 50


def test_grouped_steps_come_in_random_order_and_are_others_in_each_epoch():
    lengths = np.arange(640) // 4
    order = DataOrder(640, 8, 2, seed=0, grouped=lengths)
    means = [lengths[step_rows(order, step)].mean() for step in range(80)]
    assert abs(np.corrcoef(means[:40], range(40))[0, 1]) < 0.5
    first, second = ({tuple(step_rows(order, step)) for step in range(start, start + 40)} for start in (0, 40))
    assert not first & second


def test_rows_that_fill_no_step_are_the_last_of_a_grouped_epoch():
    order = DataOrder(21, 4, 2, seed=0, grouped=np.arange(21))
    assert [len(step_rows(order, step)) for step in range(3)] == [8, 8, 5]


@settings(max_examples=20)
@given(st.integers(30, 60), st.integers(0, 2**32))
def test_epochs_and_seeds_are_shuffled_differently(rows, seed):
    order = DataOrder(rows, 4, 1, seed)
    assert epoch_rows(order, 0) != epoch_rows(order, 1)
    assert epoch_rows(order, 0) != epoch_rows(copy_of(order, seed=seed + 1), 0)


def test_without_shuffling_rows_come_in_their_own_order():
    order = DataOrder(7, 2, 2, seed=3, shuffle=False)
    assert order.steps_per_epoch == 2
    assert [order.micro_batches(step) for step in range(3)] == [[[0, 1], [2, 3]], [[4, 5], [6]], [[0, 1], [2, 3]]]
    assert [order.epoch_of(step) for step in range(5)] == [0, 0, 1, 1, 2]


def test_a_rank_without_rows_gets_an_empty_micro_batch():
    order = DataOrder(5, 2, 2, seed=0, shuffle=False, world=2)
    assert [order.micro_batches(0, rank) for rank in range(2)] == [[[0, 1], [4]], [[2, 3], []]]


def test_the_order_does_not_draw_from_the_global_generator():
    torch.manual_seed(0)
    expected = torch.rand(())
    torch.manual_seed(0)
    DataOrder(10, 2, 1, seed=5).micro_batches(7)
    assert torch.equal(torch.rand(()), expected)


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_sizes_below_one_are_a_programmers_mistake(sizes):
    with pytest.raises(AssertionError):
        DataOrder(*sizes, seed=0)
