"""Series of points in bounded memory."""

from __future__ import annotations

import math
import random
import sys
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdspec.report.curve import MOST, Curve


@pytest.mark.parametrize("points", [1, 2, 57, MOST])
def test_few_points_stay_as_they_are(points):
    values = [(step, 1 / (1 + step)) for step in range(points)]
    groups = Curve(values).groups()
    assert [(group.x, group.y) for group in groups] == values
    assert all(group.points == 1 and group.low == group.high == group.y for group in groups)


def test_more_points_become_means_of_neighbours_with_their_extremes():
    (first, second) = Curve([(1, 4.0), (2, 2.0), (3, 6.0), (4, 8.0)]).groups(2)
    assert (first.x, first.y, first.low, first.high, first.first, first.last) == (1.5, 3.0, 2.0, 4.0, 1, 2)
    assert (second.x, second.y, second.points) == (3.5, 7.0, 2)


@given(st.integers(1, 3_000), st.integers(0, 1_000), st.integers(1, 250))
def test_however_long_a_curve_is_its_mean_and_its_extremes_are_kept(points, seed, most):
    draw = random.Random(seed)
    values = [draw.uniform(-1e6, 1e6) for _ in range(points)]
    curve = Curve(enumerate(values))
    groups = curve.groups(most)
    assert len(groups) <= most
    assert sum(group.points for group in groups) == len(values)
    assert min(group.low for group in groups) == min(values)
    assert max(group.high for group in groups) == max(values)
    mean = sum(group.y * group.points for group in groups) / len(values)
    assert mean == pytest.approx(fmean(values), rel=1e-9, abs=1e-3)
    assert curve.ends == ((0, values[0]), (len(values) - 1, values[-1]))
    assert curve.last == values[-1]


def test_memory_does_not_grow_with_the_points():
    short, long = Curve((i, 0.5) for i in range(1_000)), Curve((i, 0.5) for i in range(200_000))

    def size(curve):
        return sum(sys.getsizeof(value) for value in vars(curve).values())

    assert size(long) < 1.5 * size(short)
    assert len(long.groups()) > MOST // 2 - 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e301])
def test_what_is_no_number_is_kept_apart(bad):
    curve = Curve([(1, bad), (2, 0.5), (3, bad)])
    assert [odd.x for odd in curve.odd] == [1, 3]
    assert curve.ends == ((2, 0.5), (2, 0.5))
    assert len(Curve((i, bad) for i in range(100_000)).odd) < 100
