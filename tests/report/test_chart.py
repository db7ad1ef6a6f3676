"""Curves as SVG."""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdspec.report.chart import HEIGHT, TITLES, WIDTH, chart, ticks
from kdspec.report.curve import Curve

SVG = "{http://www.w3.org/2000/svg}"


def parsed(points, **options):
    text = chart(Curve(points), label="loss", **options)
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


@pytest.mark.parametrize("points", [[(1, 1e308), (2, -1e308)], [(10**400, 1.0), (5, 2.0), (3, 1.0)], [(1, 5e-324)]])
def test_numbers_beyond_all_sense_are_drawn_or_left_out(points):
    text = chart(Curve(points), label="loss")
    assert "nan" not in text
    assert "inf" not in text


@pytest.mark.parametrize("points", [[], [(1, math.nan)], [(1, math.inf)]])
def test_nothing_finite_is_no_chart(points):
    assert chart(Curve(points), label="loss") == ""


def test_each_point_has_a_title():
    titles = [title.text for title in parsed([(1, 0.5), (2, 0.25)]).iter(f"{SVG}title")]
    assert titles == ["step 1: 0.5", "step 2: 0.25"]


def test_the_best_is_marked():
    marks = [circle for circle in parsed([(1, 0.5), (2, 0.25)], mark=2).iter() if circle.get("class") == "mark"]
    assert len(marks) == 1


def test_labels_are_escaped():
    assert "<script>" not in chart(Curve([(1, 1.0)]), label='"><script>', x="<script>")


@pytest.mark.parametrize("points", [61, 200, 5_000, 100_000])
def test_a_long_curve_has_few_titles_among_them_the_extremes(points):
    values = [(step, math.sin(step)) for step in range(1, points)]
    values[points // 3] = (points // 3 + 1, 77.0)
    text = chart(Curve(values), label="loss")
    assert text.count("<title>") <= TITLES
    assert "77" in text
    assert len(text) < 14_000


@pytest.mark.parametrize("points", [401, 1_000, 100_000])
def test_the_line_of_a_long_curve_begins_and_ends_where_the_curve_does(points):
    """The means of groups do not."""
    svg = parsed([(step, step / points) for step in range(points + 1)])
    line = [tuple(map(float, pair.split(","))) for pair in svg.find(f"{SVG}polyline").get("points").split()]
    assert line[0] == (60, HEIGHT - 30)
    assert line[-1] == (WIDTH - 12, 10)


@pytest.mark.parametrize("place", [0, 1, 999, 12_345, 19_999])
def test_a_single_spike_stays_visible(place):
    svg = parsed([(step, 100.0 if step == place else 1.0) for step in range(20_000)])
    band = [float(pair.split(",")[1]) for pair in svg.find(f"{SVG}polygon").get("points").split()]
    assert min(band) == pytest.approx(10)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("points", [3, 50_000])
def test_a_point_that_is_no_number_is_a_tick_with_its_step(points, value):
    odd = points // 2
    svg = parsed([(step, value if step == odd else 1.0) for step in range(points)])
    (group,) = (each for each in svg if each.get("class") == "odd")
    assert [title.text for title in group.iter(f"{SVG}title")] == [f"step {odd}: {value:g}"]


def test_few_points_have_no_band():
    assert parsed([(step, step % 7) for step in range(200)]).find(f"{SVG}polygon") is None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.5, 1]), (0.12, 0.19, [0.12, 0.14, 0.16, 0.18, 0.2]), (3, 97, [0, 50, 100])],
)
def test_ticks_are_round_and_enclose_the_values(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_whole_ticks_are_integers_within_the_values():
    assert ticks(1, 6, whole=True) == [2, 4, 6]
    assert ticks(1, 2, whole=True) == [1, 2]
