"""Curves as SVG."""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdspec.report.chart import HEIGHT, WIDTH, chart, thinned, ticks

SVG = "{http://www.w3.org/2000/svg}"


def parsed(points, **options):
    text = chart(points, label="loss", **options)
    return ET.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


@given(st.lists(st.tuples(st.integers(0, 10**7), st.floats()), max_size=300))
def test_any_curve_is_within_the_picture_or_omitted(points):
    curve = sorted(points, key=lambda point: point[0])
    if not any(math.isfinite(y) and abs(y) < 1e300 for _, y in curve):
        return
    finite = [(x, y) for x, y in curve if not math.isfinite(y) or abs(y) < 1e300]
    line = parsed(finite).find(f"{SVG}polyline")
    for pair in line.get("points").split():
        x, y = map(float, pair.split(","))
        assert -0.1 <= x <= WIDTH + 0.1
        assert -0.1 <= y <= HEIGHT + 0.1


@pytest.mark.parametrize("points", [[], [(1, math.nan)], [(1, math.inf)]])
def test_nothing_finite_is_no_chart(points):
    assert chart(points, label="loss") == ""


def test_each_point_has_a_title():
    titles = [title.text for title in parsed([(1, 0.5), (2, 0.25)]).iter(f"{SVG}title")]
    assert titles == ["step 1: 0.5", "step 2: 0.25"]


def test_the_best_is_marked():
    marks = [circle for circle in parsed([(1, 0.5), (2, 0.25)], mark=2).iter() if circle.get("class") == "mark"]
    assert len(marks) == 1


def test_labels_are_escaped():
    assert "<script>" not in chart([(1, 1.0)], label='"><script>', x="<script>")


def test_many_points_become_means_of_neighbours():
    assert thinned([(i, float(i)) for i in range(6)], 3) == [(0.5, 0.5), (2.5, 2.5), (4.5, 4.5)]
    assert len(thinned([(i, 0.0) for i in range(1001)], 200)) <= 200


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.5, 1]), (0.12, 0.19, [0.12, 0.14, 0.16, 0.18, 0.2]), (3, 97, [0, 50, 100])],
)
def test_ticks_are_round_and_enclose_the_values(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_whole_ticks_are_integers_within_the_values():
    assert ticks(1, 6, whole=True) == [2, 4, 6]
    assert ticks(1, 2, whole=True) == [1, 2]
