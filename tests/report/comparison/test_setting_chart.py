"""A metric by a setting, as a picture."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from kdspec.report.chart import HEIGHT, WIDTH
from kdspec.report.comparison.compared_run import read_run
from kdspec.report.comparison.setting_chart import ROWS, left_out, setting_chart
from kdspec.report.comparison.setting_effect import setting_effects
from kdspec.report.comparison.variant import compare


def drawn(folder_of_run, values, *, seeds=(1,), best=None, accuracy=lambda number, seed: number / 50 + seed / 100):
    """The effect of these values, and its chart."""
    folders, swept = [], {}
    for number, value in enumerate(values):
        for seed in seeds:
            name = f"r{number}-s{seed}"
            folders.append(folder_of_run(name, temperature=number + 1.0, seed=seed, accuracy=accuracy(number, seed)))
            swept[name] = value
    (effect,) = setting_effects(compare(map(read_run, folders)), {"a.b": swept})
    return effect, setting_chart(effect, metric="validation accuracy", best=best)


def dots(chart):
    """The places of the runs."""
    (path,) = re.findall(r'<path class="run" d="([^"]*)"', chart)
    return [(float(x), float(y)) for x, y in re.findall(r"M([\d.]+) ([\d.]+)h0", path)]


def texts(chart):
    return [text.text for text in ET.fromstring(chart).iter("text")]


def test_numbers_are_across_and_the_metric_is_up(folder_of_run):
    _, chart = drawn(folder_of_run, [1, 2, 4])
    (x1, y1), (x2, y2), (x3, y3) = dots(chart)
    assert (x3 - x2) / (x2 - x1) == pytest.approx(2, abs=0.02)
    assert y1 > y2 > y3
    assert {"1", "2", "4"} <= {*texts(chart)}
    assert 'class="average"' not in chart


def test_many_decades_are_evenly_apart(folder_of_run):
    _, chart = drawn(folder_of_run, [1e-5, 1e-4, 1e-2])
    (x1, _), (x2, _), (x3, _) = dots(chart)
    assert (x3 - x2) / (x2 - x1) == pytest.approx(2, abs=0.02)
    assert texts(chart)[-4:] == ["1e-5", "1e-4", "1e-3", "0.01"]
    assert "1e-8" in texts(drawn(folder_of_run, [10**-8, 10**8.5], seeds=(7,))[1])


def test_several_seeds_have_their_mean_and_deviation(folder_of_run):
    _, chart = drawn(folder_of_run, [1, 2], seeds=(1, 2, 3), best=1)
    assert len(dots(chart)) == 6
    assert (chart.count('class="average"'), chart.count('class="deviation"'), chart.count('class="mark"')) == (2, 2, 1)
    titles = [title.text for title in ET.fromstring(chart).iter("title")]
    assert "1: mean of 3 runs 0.02 ± 0.01 over seeds" in titles
    assert "r0-s3, seed 3: validation accuracy 0.03" in titles


def test_what_is_no_number_has_a_row_with_its_text(folder_of_run):
    evil = "<script>" + "x" * 100
    effect, chart = drawn(folder_of_run, ["kl", evil, None], seeds=(1, 2))
    assert [text for text in texts(chart) if text.startswith(("kl", "<script>x", "null"))][1].endswith("…")
    assert "<script" not in chart
    rows = sorted({y for _, y in dots(chart)})
    assert len(rows) == 3
    assert chart.count('class="average"') == 3
    assert texts(chart)[-1] == "validation accuracy"
    assert left_out([effect]) == 0


def test_of_many_values_without_numbers_the_first_are_drawn(folder_of_run):
    effect, chart = drawn(folder_of_run, [f"v{n}" for n in range(ROWS + 3)])
    assert len(dots(chart)) == ROWS
    assert left_out([effect]) == 3


@pytest.mark.parametrize("values", [[1, 1 + 1e-12], [0, 1e300], [5e-324, 1e300], [-1, 1], [-1e299, 1e299], ["a", "b"]])
@pytest.mark.parametrize("accuracy", [0.5, 0.0, -1e299, 1e299, 5e-324])
def test_all_is_within_the_picture_whatever_the_numbers(folder_of_run, values, accuracy):
    _, chart = drawn(folder_of_run, values, seeds=(1, 2), best=0, accuracy=lambda number, seed: accuracy)
    (height,) = re.findall(rf'viewBox="0 0 {WIDTH} (\d+)"', chart)
    assert int(height) <= HEIGHT
    for x, y in dots(chart):
        assert 0 <= x <= WIDTH
        assert 0 <= y <= int(height)
    assert "nan" not in chart
