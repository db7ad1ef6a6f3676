"""A curve as inline SVG: axes, ticks and a title on every point, without a script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

Point = tuple[float, float]

WIDTH, HEIGHT = 360, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 12, 10, 30
_MOST_POINTS = 200


def chart(points: Sequence[Point], *, label: str, x: str = "step", mark: float | None = None) -> str:
    """The curve through `points`, sorted by x; `mark` is an x to highlight, such as that of the best value.

    Many points are averaged in groups of neighbours. Non-finite points are omitted; without any point the text is empty.
    """
    finite = [(a, b) for a, b in points if math.isfinite(a) and math.isfinite(b)]
    if not finite:
        return ""
    drawn = thinned(finite, _MOST_POINTS)
    xs, ys = ticks(*_range([a for a, _ in drawn]), whole=True), ticks(*_range([b for _, b in drawn]))
    left, right = min(xs[0], drawn[0][0]), max(xs[-1], drawn[-1][0])
    low, high = ys[0], ys[-1]

    def at(point: Point) -> tuple[float, float]:
        across = (point[0] - left) / (right - left) if right > left else 0.5
        up = (point[1] - low) / (high - low) if high > low else 0.5
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    parts += [_horizontal(at((left, y))[1], _tick(y, ys)) for y in ys]
    parts += [_vertical(at((tick, low))[0], _tick(tick, xs)) for tick in xs]
    parts.append(f'<text class="axis" x="{WIDTH - _RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{escape(x)}</text>')
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in map(at, drawn))
    parts.append(f'<polyline class="line" points="{line}"/>')
    if mark is not None:
        nearest = min(drawn, key=lambda point: abs(point[0] - mark))
        a, b = at(nearest)
        parts.append(f'<circle class="mark" cx="{a:.1f}" cy="{b:.1f}" r="4"/>')
    radius = 2 if len(drawn) <= 40 else 0
    for point in drawn:
        a, b = at(point)
        title = f"<title>{escape(x)} {point[0]:g}: {point[1]:.6g}</title>"
        if radius:
            parts.append(f'<circle class="point" cx="{a:.1f}" cy="{b:.1f}" r="{radius}"/>')
        parts.append(f'<circle class="touch" cx="{a:.1f}" cy="{b:.1f}" r="7">{title}</circle>')
    return "".join((*parts, "</svg>"))


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most `most` points, each the mean of an equal number of neighbours."""
    size = -(-len(points) // most)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(a for a, _ in group) / len(group), sum(b for _, b in group) / len(group)) for group in groups]


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Three to six round numbers that enclose `low` to `high`; for `whole` they are integers within them."""
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * (1 - 1e-9))
    if whole:
        step = max(1.0, step)
        return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)] or [low]
    return [step * i for i in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest value, widened if they are equal."""
    low, high = min(values), max(values)
    # With a smaller range the ticks would have equal labels.
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    margin = abs(low) / 10 or 1.0
    return low - margin, high + margin


def _tick(value: float, others: Sequence[float]) -> str:
    """A tick's number, with enough digits to differ from the others."""
    step = abs(others[1] - others[0]) if len(others) > 1 else abs(value)
    largest = max(abs(other) for other in others)
    if largest >= 1e5 or (0 < largest < 1e-3):
        return f"{value:.3g}"
    decimals = max(0, -math.floor(math.log10(step))) if step > 0 else 0
    return f"{value:.{decimals}f}"


def _horizontal(y: float, text: str) -> str:
    line = f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text class="axis" x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{text}</text>'


def _vertical(x: float, text: str) -> str:
    bottom = HEIGHT - _BOTTOM
    line = f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
    return f'{line}<text class="axis" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{text}</text>'
