"""The HTML page of several runs: self-contained, for light and dark themes, any width, and paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from kdspec.render.clean import visible
from kdspec.render.progress import duration
from kdspec.render.several_runs.comparison import (
    BEST,
    caption,
    common,
    figure_text,
    is_common,
    number_text,
    open_lines,
    runs_text,
)
from kdspec.report.comparison.comparison_style import COMPARISON_STYLE
from kdspec.report.comparison.overlay import OverlayLine, line_class, overlay
from kdspec.report.comparison.setting_chart import left_out, setting_chart
from kdspec.report.comparison.setting_effect import SettingEffect, setting_effects
from kdspec.report.comparison.setting_table import short_paths
from kdspec.report.comparison.variant import RunComparison
from kdspec.report.curve import MOST, Curve
from kdspec.report.digest import StageCurves
from kdspec.report.style import STYLE

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_LINES = 60
"""Lines of a chart."""
_CHARTS = 60
"""Charts of the page."""
_POINTS, _FEWEST = 60_000, 12
"""Points of all charts, and the fewest of a line."""


def comparison_page(
    found: RunComparison,
    title: str,
    notes: Sequence[str] = (),
    swept: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """The whole page; everything is escaped, and no character is invisible.

    Args:
        found: the runs.
        title: the heading of the page.
        notes: lines for the end of the page, besides what the runs themselves lack.
        swept: of a sweep, for the path of each of its settings the value by the name of the run.
    """
    body = [
        _header(found, title),
        _section("Figures", _figures(found)),
        _section("What differs", _differences(found)),
        _section(f"Validation {found.metric} by setting", _effects(found, list(setting_effects(found, swept)))),
        *_curves(found),
        _section("Every run", _runs(found)),
        _section("Notes", _notes([*open_lines(found), *notes])),
    ]
    return visible(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)} · kdspec</title>\n<style>{STYLE}{COMPARISON_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _section(title: str, html: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{html}\n</section>" if html else ""


def _header(found: RunComparison, title: str) -> str:
    states = [run.status for run in found.runs]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))
    variants = f"{len(found.variants)} variant{'s' if len(found.variants) > 1 else ''}"
    state = "finished" if {*states} == {"finished"} else "failed" if "failed" in states else "open"
    head = f'<h1>{escape(title)}</h1>\n<p class="state {state}">{escape(f"{variants} · runs: {counted}")}</p>'
    return f"<header>\n{head}\n{_tiles(found)}</header>"


def _tiles(found: RunComparison) -> str:
    """The main figures of the best variant, in large type."""
    if found.best is None:
        return ""
    label = escape(found.variants[found.best].label)
    tiles = [f'<div><dt>best by validation</dt><dd class="label">{label}</dd></div>']
    for column in found.columns:
        figure = column.figures[found.best]
        if figure is None or (column.unit == "metric" and found.metric not in column.name) or column.unit == "count":
            continue
        beside = f"± {number_text(figure.deviation, column.unit)}" if figure.deviation else ""
        tiles.append(
            f"<div><dt>{escape(column.name)}</dt><dd>{escape(number_text(figure.mean, column.unit))}"
            f"<small>{escape(beside)}</small></dd></div>"
        )
    return f'<dl class="figures">{"".join(tiles)}</dl>\n'


def _figures(found: RunComparison) -> str:
    several = any(len(variant.runs) > 1 for variant in found.variants)
    columns = [column for column in found.columns if not is_common(column)]
    head = ["", *(("runs",) if several else ()), *(column.name for column in columns)]
    rows = []
    for number, variant in enumerate(found.variants):
        badge = f' <span class="badge">{BEST}</span>' if number == found.best else ""
        cells = [f"{_swatch(number)}{escape(variant.label)}{badge}"]
        cells += [escape(runs_text(variant))] if several else []
        cells += [escape(figure_text(column.figures[number], column.unit)) for column in columns]
        rows.append((cells, "best" if number == found.best else ""))
    notes = "".join(f'<p class="note">{escape(text)}</p>' for text in (common(found), caption(found)) if text)
    return _table(head, rows, numbers=len(columns)) + notes


def _differences(found: RunComparison) -> str:
    """Settings, content and versions that differ: a row for each variant if these are more than the settings."""
    rows = [*found.differences, *found.content, *found.versions]
    if not rows or len(found.variants) < 2:
        return ""
    labels = [f"{_swatch(number)}{escape(variant.label)}" for number, variant in enumerate(found.variants)]
    grid = [[f"<code>{escape(row.path)}</code>", *map(escape, row.texts)] for row in rows]
    if len(found.variants) <= len(rows):
        return _table([], [(cells, "") for cells in grid], heads=["", *labels])
    turned = [list(column) for column in zip(*grid, strict=True)]
    return _table(
        [], [([label, *cells], "") for label, cells in zip(labels, turned[1:], strict=True)], heads=["", *turned[0]]
    )


def _effects(found: RunComparison, effects: Sequence[SettingEffect]) -> str:
    """A chart of the validation metric for each setting."""
    drawn = effects[:_CHARTS]
    if not drawn:
        return ""
    charts = []
    for name, effect in zip(short_paths([each.path for each in drawn]), drawn, strict=True):
        svg = setting_chart(effect, metric=f"validation {found.metric}", best=found.best)
        log = ", logarithmic" if effect.scale == "logarithmic" else ""
        caption_ = f"<b>{escape(name)}</b><small>{escape(effect.path)}{log}</small>"
        charts.append(f"<figure><figcaption>{caption_}</figcaption>{svg}</figure>")
    note = "A dot is a finished run."
    if any(len(value.runs) > 1 for effect in drawn for value in effect.values):
        note += " A bar is the mean of the runs with a value, with its standard deviation over the seeds if there are several."
    if found.best is not None:
        note += " The ring is at the mean of the best variant."
    if hidden := left_out(drawn):
        note += f" {hidden:,} more value{' is' if hidden == 1 else 's are'} not drawn."
    return f'<div class="charts settings">{"".join(charts)}</div><p class="note">{escape(note)}</p>'


def _curves(found: RunComparison) -> Iterator[str]:
    """For each stage the loss, its terms and the validation metrics of all runs over each other."""
    stages = dict.fromkeys(name for run in found.runs for name in run.digest.begun if name in run.digest.stages)
    charts = [(stage, *chart) for stage in stages for chart in _charts(found, stage)][:_CHARTS]
    lines = sum(len(each[3]) for each in charts) or 1
    most = min(MOST, max(_FEWEST, _POINTS // lines))
    for stage in stages:
        drawn = "".join(_drawn(name, aside, curves, most) for of, name, aside, curves in charts if of == stage)
        if drawn:
            body = f'{_legend(found)}<div class="charts over">{drawn}</div>'
            yield _section(f"Curves of {stage}", body)


def _charts(found: RunComparison, stage: str) -> Iterator[tuple[str, str, list[OverlayLine]]]:
    names: dict[tuple[str, str], Callable[[StageCurves], Curve | None]] = {("loss", "weighted total"): _loss}
    of_runs = [run.digest.stages[stage] for run in found.runs if stage in run.digest.stages]
    for metric in dict.fromkeys(name for curves in of_runs for name in curves.metrics):
        if metric in ("loss", found.metric) or not found.metric:
            split = next((curves.split for curves in of_runs if curves.split), "validation")
            names[f"{split} {metric}", "of the model that the stage trains"] = _metric(metric)
    terms = dict.fromkeys(name for curves in of_runs for name in curves.terms)
    for term in terms if len(terms) > 1 else ():
        names[term, "unweighted"] = _term(term)
    for (name, aside), curve_of in names.items():
        lines = [
            OverlayLine(curve, _title(run.name, run.seed), number)
            for number, variant in enumerate(found.variants)
            for run in variant.runs
            if stage in run.digest.stages and (curve := curve_of(run.digest.stages[stage]))
        ]
        if lines:
            left_out = f"; {len(lines) - _LINES} more runs are not drawn" if len(lines) > _LINES else ""
            yield name, aside + left_out, lines[:_LINES]


def _loss(stage: StageCurves) -> Curve | None:
    return stage.loss


def _metric(name: str) -> Callable[[StageCurves], Curve | None]:
    return lambda stage: stage.metrics.get(name)


def _term(name: str) -> Callable[[StageCurves], Curve | None]:
    return lambda stage: stage.terms.get(name)


def _title(name: str, seed: object) -> str:
    return f"{name}, seed {seed}"


def _drawn(name: str, aside: str, lines: Sequence[OverlayLine], most: int) -> str:
    svg = overlay(lines, label=f"{name} by step, {len(lines)} runs", most=most)
    caption_ = f"<b>{escape(name)}</b><small>{escape(aside)}</small>"
    return f"<figure><figcaption>{caption_}</figcaption>{svg}</figure>" if svg else ""


def _legend(found: RunComparison) -> str:
    items = "".join(
        f"<li>{_swatch(number)}{escape(variant.label)}</li>" for number, variant in enumerate(found.variants[:_LINES])
    )
    return f'<ul class="legend">{items}</ul>'


def _swatch(variant: int) -> str:
    return f'<svg class="swatch {line_class(variant)}" viewBox="0 0 26 10" aria-hidden="true"><path d="M0 5H26"/></svg>'


def _runs(found: RunComparison) -> str:
    head = ["", "variant", "seed", "state", *((f"validation {found.metric}",) if found.metric else ()), "steps"]
    head += ["training time", "starts", "folder"]
    rows = []
    for number, variant in enumerate(found.variants):
        for run in variant.runs:
            reason = f" <small>{escape(run.reason)}</small>" if run.reason else ""
            value = "" if run.value is None else number_text(run.value, "metric")
            cells = [
                escape(run.name),
                f"{_swatch(number)}{escape(variant.label)}",
                escape(str(run.seed)),
                f'<span class="{run.status}">{run.status}</span>{reason}',
                *((escape(value),) if found.metric else ()),
                f"{run.cost.steps:,}",
                duration(run.cost.seconds),
                str(run.cost.starts),
                f"<code>{escape(str(run.folder))}</code>",
            ]
            rows.append((cells, ""))
    return _table(head, rows)


def _notes(lines: Iterable[str]) -> str:
    items = "".join(f'<li class="warning">{escape(line)}</li>' for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _table(
    head: Sequence[str], rows: Iterable[tuple[Sequence[str], str]], *, numbers: int = 0, heads: Sequence[str] = ()
) -> str:
    """A table of HTML cells with a class for each row; the last `numbers` columns have numbers. `heads` are HTML."""
    titles = heads or [escape(title) for title in head]
    first = len(titles) - numbers
    top = "".join(f"<th{_numeric(i >= first)}>{title}</th>" for i, title in enumerate(titles))
    body = "".join(
        f"<tr{f' class={chr(34)}{name}{chr(34)}' if name else ''}>"
        + "".join(f"<td{_numeric(i >= first)}>{cell}</td>" for i, cell in enumerate(cells))
        + "</tr>"
        for cells, name in rows
    )
    return f'<div class="wide sides"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _numeric(numeric: bool) -> str:  # noqa: FBT001 - the only argument
    return ' class="number"' if numeric else ""
