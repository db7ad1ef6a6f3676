"""A metric by the value of a setting as inline SVG: a dot for each run, means and deviations, without a script."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from kdspec.report.chart import HEIGHT, WIDTH, ticks, widened
from kdspec.report.comparison.compared_run import ComparedRun
from kdspec.report.comparison.overlay import tick_text
from kdspec.report.comparison.setting_effect import SettingEffect, SettingValue, metric_of

ROWS = 24
"""Values of a setting without numbers that are drawn."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 16, 12, 30
_ROW = 38
"""Height of a value's row: its text, and the runs below it."""
_WIDE, _NARROW = 11.0, 6.5
"""Pixels of letters, at most: of Chinese and of capital ones, and of others."""
_APART = 3
"""Pixels between the variants with one value."""
_MOST_APART = 30
_DECADES = 5
"""Decades with a label of their own."""


@dataclass(frozen=True)
class _Axis:
    """Where the numbers from `low` to `high` are between two places of the picture."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        inside = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.start + inside * (self.end - self.start)


@dataclass(frozen=True)
class _Place:
    """Where the runs with one value are: along the axis of the setting, and by the metric."""

    value: SettingValue
    along: float
    room: float
    """Pixels along the axis in which the variants are beside one another."""
    by: _Axis
    upright: bool
    """Whether the metric is up, and not across."""

    def at(self, metric: float, aside: float = 0.0) -> tuple[str, str]:
        other, own = f"{self.by(metric):.1f}", f"{self.along + aside:.1f}"
        return (own, other) if self.upright else (other, own)

    def variants(self) -> Iterator[tuple[int, Sequence[ComparedRun], float]]:
        """Each variant with its runs, and the pixels by which it is moved: those with one value do not hide each other."""
        step = min(_APART, self.room / len(self.value.variants))
        for number, (variant, runs) in enumerate(self.value.variants.items()):
            yield variant, runs, (number - (len(self.value.variants) - 1) / 2) * step


def setting_chart(effect: SettingEffect, *, metric: str, best: int | None) -> str:
    """The chart of a setting: numbers are across and the metric is up, and without numbers each value is a row.

    Args:
        effect: the setting with its runs.
        metric: the name of the metric.
        best: the number of the best variant, which is marked.
    """
    if effect.scale == "categories":
        height, axes, places = _rows(effect, metric)
    else:
        height, axes, places = HEIGHT, *_numbers(effect)
    label = f"{metric} by {effect.path}, {sum(len(each.runs) for each in effect.values)} runs"
    return "".join(
        (
            f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">',
            axes,
            *map(_spread, places),
            f'<path class="run" d="{"".join(map(_dots, places))}"/>',
            *(_mark(place, best) for place in places if best in place.value.variants),
            f'<g class="touch">{"".join(_touched(place, metric) for place in places)}</g>',
            "</svg>",
        )
    )


def _numbers(effect: SettingEffect) -> tuple[str, list[_Place]]:
    """Axes and places of a setting with numbers."""
    log = effect.scale == "logarithmic"
    value_of: Callable[[float], float] = math.log10 if log else float
    values = sorted(value_of(each.value) for each in effect.values)
    if log:
        decades = range(math.floor(values[0] + 1e-9), math.ceil(values[-1] - 1e-9) + 1)
        texts = {float(n): _power(n) for n in decades[:: -(-len(decades) // _DECADES)]}
        low, high = float(decades[0]), float(decades[-1])
    else:
        across = ticks(*widened(values))
        texts = {tick: tick_text(tick, across) for tick in across}
        low, high = across[0], across[-1]
    x = _Axis(low, high, _LEFT + _MOST_APART / 2, WIDTH - _RIGHT - _MOST_APART / 2)
    up = _metric_ticks(effect)
    y = _Axis(up[0], up[-1], HEIGHT - _BOTTOM, _TOP)
    room = min(_MOST_APART, *(0.6 * (x(two) - x(one)) for one, two in pairwise(values)))
    places = [_Place(each, x(value_of(each.value)), room, y, upright=True) for each in effect.values]
    bottom = HEIGHT - _BOTTOM
    grid = "".join(
        (
            *(f"M{_LEFT} {y(tick):.1f}H{WIDTH - _RIGHT}" for tick in up),
            *(f"M{x(tick):.1f} {bottom}v4" for tick in texts),
        )
    )
    beside = "".join(f'<text x="{_LEFT - 6}" y="{y(tick) + 3.5:.1f}">{tick_text(tick, up)}</text>' for tick in up)
    below = "".join(f'<text x="{x(tick):.1f}" y="{bottom + 15}">{text}</text>' for tick, text in texts.items())
    return (
        f'<path class="grid" d="{grid}"/><g class="axis" text-anchor="end">{beside}</g>'
        f'<g class="axis" text-anchor="middle">{below}</g>'
    ), places


def _rows(effect: SettingEffect, metric: str) -> tuple[int, str, list[_Place]]:
    """Height, axes and places of a setting with a row for each value."""
    values = effect.values[:ROWS]
    height = _TOP + _ROW * len(values) + _BOTTOM
    across = _metric_ticks(effect)
    x = _Axis(across[0], across[-1], _RIGHT + 8, WIDTH - _RIGHT - 8)
    bottom = height - _BOTTOM
    places, names, lines = [], [], []
    for number, value in enumerate(values):
        middle = _TOP + _ROW * number + 27
        names.append(f'<text x="{_RIGHT}" y="{middle - 15}">{escape(_fitting(value.text))}</text>')
        lines.append(f"M{_RIGHT} {middle}H{WIDTH - _RIGHT}")
        places.append(_Place(value, middle, _ROW / 3, x, upright=False))
    grid = "".join((*lines, *(f"M{x(tick):.1f} {bottom}v4" for tick in across)))
    below = "".join(f'<text x="{x(tick):.1f}" y="{bottom + 15}">{tick_text(tick, across)}</text>' for tick in across)
    axes = (
        f'<path class="grid" d="{grid}"/><g class="axis value">{"".join(names)}</g>'
        f'<g class="axis" text-anchor="middle">{below}</g>'
        f'<g class="axis" text-anchor="end"><text x="{WIDTH - _RIGHT}" y="{height - 3}">{escape(metric)}</text></g>'
    )
    return height, axes, places


def _metric_ticks(effect: SettingEffect) -> list[float]:
    """Ticks of the metric that enclose the runs and the deviations."""
    numbers: list[float] = []
    for each in effect.values:
        figure, deviation = each.figure, each.deviation or 0.0
        numbers += [*figure.values, figure.mean - deviation, figure.mean + deviation]
    return ticks(*widened(numbers))


def _dots(place: _Place) -> str:
    found = (place.at(value, aside) for _, runs, aside in place.variants() for value in metric_of(runs).values)
    return "".join(f"M{x} {y}h0" for x, y in found)


def _spread(place: _Place) -> str:
    """The mean of several runs as a line across, and one standard deviation to either side."""
    figure, deviation = place.value.figure, place.value.deviation
    if len(figure.values) < 2:
        return ""
    x, y = place.at(figure.mean)
    made = f'<path class="average" d="{f"M{float(x) - 10:.1f} {y}h20" if place.upright else f"M{x} {float(y) - 10:.1f}v20"}"/>'
    if deviation is not None:
        (x0, y0), (x1, y1) = (place.at(figure.mean + side * deviation) for side in (-1, 1))
        made += f'<path class="deviation" d="M{x0} {y0}L{x1} {y1}"/>'
    return made


def _mark(place: _Place, best: int | None) -> str:
    """A ring at the mean of the best variant."""
    marked = ((runs, aside) for variant, runs, aside in place.variants() if variant == best)
    rings = (place.at(metric_of(runs).mean, aside) for runs, aside in marked)
    return "".join(
        f'<circle class="mark" cx="{x}" cy="{y}" r="6"><title>best by validation</title></circle>' for x, y in rings
    )


def _touched(place: _Place, metric: str) -> str:
    """The runs and the mean with their titles, for a pointer on them."""
    titles = []
    figure, deviation = place.value.figure, place.value.deviation
    if len(figure.values) > 1:
        spread = "" if deviation is None else f" ± {deviation:.2g} over seeds"
        title = f"{place.value.text}: mean of {len(figure.values)} runs {figure.mean:.6g}{spread}"
        titles.append((*place.at(figure.mean), title))
    for _, runs, aside in place.variants():
        for run, value in zip(runs, metric_of(runs).values, strict=True):
            titles.append((*place.at(value, aside), f"{run.name}, seed {run.seed}: {metric} {value:.6g}"))
    return "".join(f'<circle cx="{x}" cy="{y}" r="5"><title>{escape(text)}</title></circle>' for x, y, text in titles)


def _fitting(text: str) -> str:
    """A text as far as the picture is wide."""
    room = WIDTH - 2 * _RIGHT - _WIDE
    for place, letter in enumerate(text):
        wide = unicodedata.east_asian_width(letter) in "WF" or letter.isupper() or letter in "mw%@"
        room -= _WIDE if wide else _NARROW
        if room < 0:
            return f"{text[:place]}…"
    return text


def _power(exponent: int) -> str:
    return f"{10.0**exponent:g}" if -3 < exponent < 5 else f"1e{exponent}"


def left_out(effects: Sequence[SettingEffect]) -> int:
    """The values that have no row, of all charts."""
    return sum(max(0, len(each.values) - ROWS) for each in effects if each.scale == "categories")
