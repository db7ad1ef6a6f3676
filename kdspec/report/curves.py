"""The charts of each stage: loss, terms, metrics, learning rates and gradient norm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, NamedTuple

from kdspec.render import plan as text
from kdspec.render.progress import number
from kdspec.render.rehearsal import STUDENT
from kdspec.report.chart import TITLES, chart
from kdspec.report.curve import MOST, Curve
from kdspec.report.digest import Digest, StageCurves

_POINTS, _TITLES = 30_000, 7_500
"""Points, and points with a title, of all charts of a page; a page of many stages has few in each chart."""
_FEWEST, _FEWEST_TITLES = 12, 2
_NATS = ("nll", "kl")
"""Metrics with a unit."""
_CHARTS = 2_500
"""Charts of a page."""


class _Figure(NamedTuple):
    name: str
    curve: Curve
    aside: str
    mark: float | None = None
    kept: float | None = None
    """The value at `mark`."""
    first: bool = False
    """Whether it is drawn before others where not all can be."""


def curve_sections(digest: Digest, plan: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """For each stage with steps the title and the HTML of a section of charts."""
    planned = (plan or {}).get("stages", ())
    students = {stage["name"]: stage["student"] for stage in planned}
    of_stages = {
        name: [figure for figure in _figures(digest.stages[name], students.get(name, STUDENT)) if figure.curve]
        for name in digest.begun
        if name in digest.stages
    }
    room = _CHARTS
    if sum(map(len, of_stages.values())) > _CHARTS:
        room = max(1, _CHARTS // len(of_stages))
        of_stages = {name: sorted(figures, key=lambda figure: not figure.first) for name, figures in of_stages.items()}
    charts = sum(min(len(figures), room) for figures in of_stages.values()) or 1
    most = min(MOST, max(_FEWEST, _POINTS // charts))
    titles = min(TITLES, max(_FEWEST_TITLES, _TITLES // charts))
    full = (
        '<p class="note warning">The log has too many terms and metrics: some have no chart.</p>' if digest.full else ""
    )
    for stage, figures in of_stages.items():
        drawn = "".join(_drawn(figure, most, titles) for figure in figures[:room])
        if drawn:
            left_out = len(figures[room:])
            note = f'<p class="note">{left_out} more curves are in the log.</p>' if left_out else ""
            yield f"Curves of {stage}", f'{full}<div class="charts">{drawn}</div>{note}'
            full = ""


def _figures(stage: StageCurves, student: str) -> Iterator[_Figure]:
    yield _Figure("loss", stage.loss, "weighted total", first=True)
    for name, curve in stage.terms.items():
        yield _Figure(name, curve, _weight(stage.weights.get(name)))
    for name, curve in stage.metrics.items():
        kept = stage.kept.get(name)
        of = f"{stage.model}, in nats" if name.rpartition(".")[2] in _NATS else stage.model
        aside = of if kept is None else f"{of}; kept: step {stage.best_step}, the circle"
        yield _Figure(f"{stage.split} {name}", curve, aside, stage.best_step, kept, first=True)
    for name, curve in stage.rates.items():
        yield _Figure("learning rate", curve, student if name == STUDENT else name)
    yield _Figure("gradient norm", stage.norms, "L2 norm before clipping")


def _drawn(figure: _Figure, most: int, titles: int) -> str:
    svg = chart(figure.curve, label=f"{figure.name} by step", mark=figure.mark, most=most, titles=titles)
    if not svg or figure.curve.last is None:
        return ""
    value = escape(number(figure.curve.last if figure.kept is None else figure.kept))
    caption = f"<span>{value}</span><b>{escape(figure.name)}</b><small>{escape(figure.aside)}</small>"
    return f"<figure><figcaption>{caption}</figcaption>{svg}</figure>"


def _weight(weights: tuple[float, float] | None) -> str:
    if weights is None:
        return "unweighted"
    first, last = (text.plain(float(weight)) for weight in weights)
    return f"unweighted; weight {first}" + ("" if first == last else f" → {last}")
