"""The curves of several runs in one chart, as inline SVG without a script."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from kdspec.report.chart import HEIGHT, WIDTH, ticks, widened
from kdspec.report.curve import Curve, Neighbours

COLOURS = 8
"""Colours of lines; further variants have the same ones, dashed."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 12, 10, 30
_TITLES = 12
"""Points of a line with a title."""


@dataclass(frozen=True)
class OverlayLine:
    """A curve of one run."""

    curve: Curve
    title: str
    """The run, for the titles of its points."""
    variant: int
    """Its variant, which gives the colour."""


def overlay(lines: Iterable[OverlayLine], *, label: str, most: int) -> str:
    """Curves over each other; empty without a finite point.

    Args:
        lines: the curves, each a line of means of neighbours if it is long.
        label: what the chart shows.
        most: the number of points of a line.
    """
    drawn = [(line, line.curve.groups(most)) for line in lines if line.curve]
    if not drawn:
        return ""
    everything = [group for _, groups in drawn for group in groups]
    across = ticks(*widened([group.first for group in everything] + [group.last for group in everything]), whole=True)
    up = ticks(*widened([group.y for group in everything]))
    left = min(across[0], *(group.first for group in everything))
    right = max(across[-1], *(group.last for group in everything))
    place = _Place(left, right, up[0], up[-1])
    return "".join(
        (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">',
            _axes(across, up, place),
            *(_line(line, groups, place) for line, groups in drawn),
            *(_odd(line, place) for line, _ in drawn if line.curve.odd),
            "</svg>",
        )
    )


def line_class(variant: int) -> str:
    """The classes of the line of a variant: its colour, and dashes beyond the colours."""
    return f"k{variant % COLOURS}" + (f" dash{variant // COLOURS % 3}" if variant >= COLOURS else "")


@dataclass(frozen=True)
class _Place:
    """Where values are in the picture."""

    left: float
    right: float
    low: float
    high: float

    def x(self, value: float) -> str:
        inside = min(max((value - self.left) / (self.right - self.left), 0.0), 1.0) if self.right > self.left else 0.5
        return f"{_LEFT + inside * (WIDTH - _LEFT - _RIGHT):.1f}"

    def y(self, value: float) -> str:
        up = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return f"{HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM):.1f}"


def _line(line: OverlayLine, groups: Sequence[Neighbours], place: _Place) -> str:
    points = " ".join(f"{place.x(group.x)},{place.y(group.y)}" for group in groups)
    stride = -(-len(groups) // _TITLES)
    # Of the last ones first: the end of a curve is what is compared.
    titled = groups[::-1][::stride]
    touched = "".join(
        f'<circle cx="{place.x(group.x)}" cy="{place.y(group.y)}" r="5">'
        f"<title>{escape(line.title)}, step {group.x:.12g}: {group.y:.6g}</title></circle>"
        for group in titled
    )
    dot = f'<path class="point" d="M{points.replace(",", " ")}h0"/>' if len(groups) == 1 else ""
    return (
        f'<g class="{line_class(line.variant)}"><polyline class="line" points="{points}"/>{dot}'
        f'<g class="touch">{touched}</g></g>'
    )


def _odd(line: OverlayLine, place: _Place) -> str:
    """Points that are not finite, as ticks at the top."""
    marks = "".join(
        f'<path d="M{place.x(point.x)} {_TOP}v8"><title>{escape(line.title)}, step {point.x:.12g}: {point.y:g}</title></path>'
        for point in line.curve.odd
    )
    return f'<g class="odd">{marks}</g>'


def _axes(across: Sequence[float], up: Sequence[float], place: _Place) -> str:
    bottom = HEIGHT - _BOTTOM
    grid = "".join(
        (*(f"M{_LEFT} {place.y(y)}H{WIDTH - _RIGHT}" for y in up), *(f"M{place.x(x)} {bottom}v4" for x in across))
    )
    beside = "".join(f'<text x="{_LEFT - 6}" y="{float(place.y(y)) + 3.5:.1f}">{tick_text(y, up)}</text>' for y in up)
    below = "".join(f'<text x="{place.x(x)}" y="{bottom + 15}">{tick_text(x, across)}</text>' for x in across)
    return (
        f'<path class="grid" d="{grid}"/><g class="axis" text-anchor="end">{beside}'
        f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 3}">step</text></g><g class="axis" text-anchor="middle">{below}</g>'
    )


def tick_text(value: float, others: Sequence[float]) -> str:
    """A tick's number, with enough digits to differ from the others."""
    step = abs(others[1] - others[0]) if len(others) > 1 else abs(value)
    largest = max(abs(other) for other in others)
    if largest >= 1e5 or (0 < largest < 1e-3):
        return f"{value:.3g}"
    return f"{value:.{max(0, -math.floor(math.log10(step))) if step > 0 else 0}f}"
