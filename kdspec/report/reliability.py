"""How far the confidence of models can be trusted, for a report: diagrams, and what asking the teacher gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from kdspec.report.chart import HEIGHT, WIDTH, ticks

_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 30
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_GOAL = 0.95
"""The accuracy of `coverage_at_95`."""
_MODELS = 40
"""Models with diagrams on a page."""
Row = Mapping[str, Any]
"""A row as `table.json` has it."""


def reliability_sections(table: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """For each task with classes the title and the HTML of its section."""
    found = [row for row in table if row.get("confidence")][:_MODELS]
    for task in dict.fromkeys(row["task"] for row in found):
        rows = [row for row in found if row["task"] == task]
        title = "How far the confidence can be trusted" + (
            f": {task}" if len({row["task"] for row in found}) > 1 else ""
        )
        drawn = "".join(_figures(row) for row in rows)
        note = (
            f"Of the {rows[0]['split']} rows. A bar is the share of right answers among those of about this confidence: on the "
            "diagonal it is the confidence, below it the model is too sure. The numbers are how many answers a bar has."
        )
        tables = "".join(_asked(row, table) for row in rows)
        yield title, f'<div class="charts">{drawn}</div><p class="note">{escape(note)}</p>{tables}'


def _figures(row: Row) -> str:
    found, name, calibration = row["confidence"], row["model"], row.get("calibration") or {}
    figures = []
    if calibration.get("bins"):
        figures.append(
            _figure(name, "before its calibration", calibration["before"], _diagram(calibration["bins"], name))
        )
    beside = (
        f"after its calibration ({calibration['method']})"
        if calibration
        else row["role"]
        if row["role"] != name
        else ""
    )
    figures.append(_figure(name, beside, row["metrics"], _diagram(found["bins"], name)))
    share = row["metrics"].get("coverage_at_95")
    value = "" if share is None else f"{100 * share:.1f} %"
    aside = "accuracy of the most confident share; right: how much can be answered with 95 % right"
    figures.append(_captioned(value, f"{name}: coverage", aside, _coverage(found["coverage"], name)))
    return "".join(figures)


def _figure(name: str, beside: str, metrics: Mapping[str, float], svg: str) -> str:
    error = metrics.get("ece")
    return _captioned("" if error is None else f"ece {error:.4f}", f"{name}: reliability", beside, svg)


def _captioned(value: str, title: str, beside: str, svg: str) -> str:
    caption = f"<span>{escape(value)}</span><b>{escape(title)}</b><small>{escape(beside)}</small>"
    return f"<figure><figcaption>{caption}</figcaption>{svg}</figure>"


def _diagram(bins: Sequence[Sequence[float] | None], name: str) -> str:
    """Accuracy by confidence in bins of equal width, with the number of answers of each."""
    parts, width = [], 1 / len(bins)
    for number, each in enumerate(bins):
        if each is None:
            continue
        count, sure, right = each
        left, end, top = _x(number * width), _x((number + 1) * width), _y(right)
        title = f"{count:,} answers of confidence {sure:.3f}: {100 * right:.1f} % right"
        parts.append(
            f'<g><title>{escape(title)}</title><rect class="bar" x="{left + 1:.1f}" y="{top:.1f}" '
            f'width="{end - left - 2:.1f}" height="{_y(0) - top:.1f}"/>'
            f'<path class="mean" d="M{left + 1:.1f} {_y(sure):.1f}H{end - 1:.1f}"/>'
            f'<text class="count" x="{(left + end) / 2:.1f}" y="{_y(0) - 3:.1f}">{_short(int(count))}</text></g>'
        )
    ideal = f'<path class="ideal" d="M{_x(0):.1f} {_y(0):.1f}L{_x(1):.1f} {_y(1):.1f}"/>'
    return _svg(f"reliability of {name}", "confidence", f"{''.join(parts)}{ideal}")


def _coverage(points: Sequence[Sequence[float]], name: str) -> str:
    """The accuracy of the most confident answers, by their share."""
    # Not from 0, since all of a good model would be at the top.
    up = ticks(min([_GOAL - 0.05, *(right for _, right, _ in points)]), 1.0)
    low = up[0]
    places = [(_x(share), _y(right, low)) for share, right, _ in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    touched = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6"><title>'
        f"{100 * share:.1f} % of the answers, confidence from {sure:.3f}: {100 * right:.1f} % right</title></circle>"
        for (x, y), (share, right, sure) in zip(places, points, strict=True)
    )
    goal = f'<path class="ideal" d="M{_x(0):.1f} {_y(_GOAL, low):.1f}H{_x(1):.1f}"/>'
    return _svg(
        f"coverage of {name}",
        "share answered",
        f'{goal}<polyline class="line" points="{line}"/><g class="touch">{touched}</g>',
        up,
    )


def _svg(label: str, across: str, inside: str, up: Sequence[float] = _TICKS) -> str:
    low = up[0]
    grid = "".join(f"M{_LEFT} {_y(tick, low):.1f}H{WIDTH - _RIGHT}" for tick in up)
    beside = "".join(f'<text x="{_LEFT - 6}" y="{_y(tick, low) + 3.5:.1f}">{tick:.4g}</text>' for tick in up)
    below = "".join(f'<text x="{_x(tick):.1f}" y="{HEIGHT - _BOTTOM + 15}">{tick:g}</text>' for tick in _TICKS)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}"><path class="grid" d="{grid}"/>'
        f'<g class="axis" text-anchor="end">{beside}<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 3}">{escape(across)}</text></g>'
        f'<g class="axis" text-anchor="middle">{below}</g>{inside}</svg>'
    )


def _x(value: float) -> float:
    return _LEFT + value * (WIDTH - _LEFT - _RIGHT)


def _y(value: float, low: float = 0.0) -> float:
    return HEIGHT - _BOTTOM - (value - low) / (1 - low) * (HEIGHT - _TOP - _BOTTOM)


def _short(count: int) -> str:
    """A number of answers in a narrow bar: `12k` for 12,345."""
    return str(count) if count < 1000 else f"{count / 1000:.0f}k" if count < 1e6 else f"{count / 1e6:.0f}M"


def _asked(row: Row, table: Sequence[Row]) -> str:
    """What asking the teacher below a confidence gives; empty where there is no teacher to ask."""
    found = row["confidence"]["asked"]
    teacher = next((each for each in table if each["role"] == "teacher" and each["task"] == row["task"]), None)
    if not found or teacher is None or row["role"] == "teacher":
        return ""
    times = (row["latency_ms"], teacher["latency_ms"])
    rows = []
    for below, share, rest, together in found:
        cost = "" if None in times else f"{times[0] + share * times[1]:.2f} ms"
        rest_ = "" if rest is None else f"{100 * rest:.1f} %"
        cells = (f"{below:g}", f"{100 * share:.1f} %", rest_, f"{100 * together:.1f} %", cost)
        rows.append("".join(f'<td class="number">{cell}</td>' for cell in cells))
    names = ("ask below confidence", "teacher is asked", "right of the rest", "right together", "time of a row")
    head = "".join(f'<th class="number">{name}</th>' for name in names)
    body = "".join(f"<tr>{cells}</tr>" for cells in rows)
    title = f"Asking {teacher['model']} where {row['model']} is not sure"
    return f'<h3>{escape(title)}</h3><div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
