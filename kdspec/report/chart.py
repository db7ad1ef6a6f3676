"""A curve as inline SVG: axes, ticks and titles on its points, without a script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from kdspec.report.curve import MOST, Curve, Neighbours

Point = tuple[float, float]

WIDTH, HEIGHT = 360, 200
TITLES = 60
"""Points of a chart that have a title, unless a page of many charts allows for fewer."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 12, 10, 30
_DOTS = 40
_LEAST = 1e-300
"""The smallest range of which a tenth is still a number of full precision."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """The range of the axes, and where points are in the picture."""

    left: float
    right: float
    low: float
    high: float
    digits: int
    """Decimals of a place in the picture."""

    def x(self, value: float) -> str:
        # Within the picture: a log from elsewhere may have its steps in any order.
        inside = min(max((value - self.left) / (self.right - self.left), 0.0), 1.0) if self.right > self.left else 0.5
        return _short(_LEFT + inside * (WIDTH - _LEFT - _RIGHT), self.digits)

    def y(self, value: float) -> str:
        up = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return _short(HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM), self.digits)

    def at(self, point: Point) -> str:
        return f"{self.x(point[0])},{self.y(point[1])}"


def chart(
    curve: Curve, *, label: str, x: str = "step", mark: float | None = None, most: int = MOST, titles: int = TITLES
) -> str:
    """A curve; `mark` is an x to highlight, such as that of the best value.

    Of a long curve the line is the means of groups of neighbours, and a band has their extremes. Points that are not finite
    are ticks at the top. Without any finite point the text is empty.

    Args:
        curve: the points.
        label: what the chart shows.
        x: the name of the horizontal axis.
        mark: the x to highlight.
        most: the number of points of the line; a chart of few points has few ticks too, for a page of many charts.
        titles: the number of points with a title, about.
    """
    if curve.ends is None:
        return ""
    groups = curve.groups(most)
    first, last = curve.ends
    xs = ticks(*widened([groups[0].first, groups[-1].last]), whole=True)
    ys = ticks(*widened([*(group.low for group in groups), *(group.high for group in groups)]))
    small = most < MOST // 2
    frame = _Frame(min(xs[0], groups[0].first), max(xs[-1], groups[-1].last), ys[0], ys[-1], digits=0 if small else 1)
    across, up = (
        {tick: _tick(tick, of_axis) for tick in (of_axis[:: (len(of_axis) - 1) or 1] if small else of_axis)}
        for of_axis in (xs, ys)
    )
    means = [(group.x, group.y) for group in groups]
    # The ends of a line of means are those of the curve.
    line = [*([first] if groups[0].points > 1 else ()), *means, *([last] if groups[-1].points > 1 else ())]
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">',
        _axes(across, up, frame, escape(x)),
        _band(groups, frame),
        f'<polyline class="line" points="{" ".join(map(frame.at, line))}"/>',
    ]
    if mark is not None:
        parts.append(_circle(frame, min(means, key=lambda point: abs(point[0] - mark)), 'class="mark" r="4"'))
    if len(means) <= _DOTS and not small:
        dots = "".join(f"M{frame.at(point)}h0" for point in means)
        parts.append(f'<path class="point" d="{dots}"/>')
    touched = (
        _circle(frame, (group.x, group.y), 'r="7"', f"{escape(x)} {_title(group)}") for group in _titled(groups, titles)
    )
    parts.append(f'<g class="touch">{"".join(touched)}</g>')
    if curve.odd:
        odd = (
            f'<path d="M{frame.x(point.x)} {_TOP}v8"><title>{escape(x)} {point.x:.12g}: {point.y:g}</title></path>'
            for point in curve.odd
        )
        parts.append(f'<g class="odd">{"".join(odd)}</g>')
    return "".join((*parts, "</svg>"))


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Three to six round numbers that enclose `low` to `high`; for `whole` they are integers within them."""
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * (1 - 1e-9))
    if whole:
        step = max(1.0, step)
        return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)] or [low]
    return [step * i for i in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def widened(values: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest value, widened if they are equal."""
    low, high = min(values), max(values)
    # With a smaller range the ticks would have equal labels.
    if high - low > max(1e-9 * max(abs(low), abs(high)), _LEAST):
        return low, high
    margin = max(abs(low) / 10, _LEAST) if low else 1.0
    return low - margin, high + margin


def _titled(groups: Sequence[Neighbours], most: int) -> list[Neighbours]:
    """About `most` groups with even distances, always those of the smallest and the largest value."""
    if len(groups) <= most:
        return list(groups)
    last = len(groups) - 1
    even = {round(place * last / max(most - 3, 1)) for place in range(most - 2)}
    extremes = {
        min(range(len(groups)), key=lambda i: groups[i].low),
        max(range(len(groups)), key=lambda i: groups[i].high),
    }
    return [groups[place] for place in sorted(even | extremes)]


def _title(group: Neighbours) -> str:
    if group.points == 1:
        return f"{group.x:.12g}: {group.y:.6g}"
    return f"{group.first:.12g} to {group.last:.12g}: {group.y:.6g}, from {group.low:.6g} to {group.high:.6g}"


def _band(groups: Sequence[Neighbours], frame: _Frame) -> str:
    """The extremes around the means; empty for a curve of single points."""
    if all(group.low == group.high for group in groups):
        return ""
    around = [*((group.x, group.high) for group in groups), *((group.x, group.low) for group in reversed(groups))]
    # A line of single width too, so that the extremes of a lone group are seen.
    return f'<polygon class="band" points="{" ".join(map(frame.at, around))}"/>'


def _tick(value: float, others: Sequence[float]) -> str:
    """A tick's number, with enough digits to differ from the others."""
    step = abs(others[1] - others[0]) if len(others) > 1 else abs(value)
    largest = max(abs(other) for other in others)
    if largest >= 1e5 or (0 < largest < 1e-3):
        return f"{value:.3g}"
    decimals = max(0, -math.floor(math.log10(step))) if step > 0 else 0
    return f"{value:.{decimals}f}"


def _axes(across: Mapping[float, str], up: Mapping[float, str], frame: _Frame, name: str) -> str:
    """The grid as one path, and the labels of the ticks."""
    bottom = HEIGHT - _BOTTOM
    xs, ys = (
        [(frame.x(tick), text) for tick, text in across.items()],
        [(frame.y(tick), text) for tick, text in up.items()],
    )
    grid = "".join((*(f"M{_LEFT} {y}H{WIDTH - _RIGHT}" for y, _ in ys), *(f"M{x} {bottom}v4" for x, _ in xs)))
    beside = "".join(f'<text x="{_LEFT - 6}" y="{_short(float(y) + 3.5)}">{text}</text>' for y, text in ys)
    below = "".join(f'<text x="{x}" y="{bottom + 15}">{text}</text>' for x, text in xs)
    return (
        f'<path class="grid" d="{grid}"/><g class="axis" text-anchor="end">{beside}'
        f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 3}">{name}</text></g><g class="axis" text-anchor="middle">{below}</g>'
    )


def _circle(frame: _Frame, point: Point, attributes: str, title: str = "") -> str:
    x, y = frame.x(point[0]), frame.y(point[1])
    inside = f"><title>{title}</title></circle>" if title else "/>"
    return f'<circle cx="{x}" cy="{y}" {attributes}{inside}'


def _short(number: float, digits: int = 1) -> str:
    return f"{number:.{digits}f}".removesuffix(".0")
