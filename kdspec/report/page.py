"""The report's HTML page: self-contained, for light and dark themes and any width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from html import escape
from typing import Any

from kdspec.api.report import Report, Section
from kdspec.events import (
    CacheState,
    Evaluated,
    Note,
    Preflight,
    RunFailed,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    StepDone,
)
from kdspec.render import plan as text
from kdspec.render.preflight import preflight_rows
from kdspec.render.progress import duration, number
from kdspec.render.rehearsal import STUDENT, size
from kdspec.render.table import caption, columns
from kdspec.report.chart import chart
from kdspec.report.style import STYLE

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class FailedSection:
    """A section that a plugin failed to provide, and why."""

    plugin: str
    reason: str


def page(report: Report, sections: Sequence[Section | FailedSection]) -> str:
    """The whole page. Everything but the HTML of a plugin's section is escaped."""
    body = [
        _header(report),
        _section("Models", _models(report)),
        *(_section(f"Curves of {stage}", _curves(report, stage)) for stage in _stages(report)),
        _section("Preflight", _preflight(report)),
        _section("Teacher caches", _caches(report)),
        _section("Plan", _plan(report)),
        *map(_added, sections),
        _section("Notes", _notes(report)),
        _section("Environment", _environment(report)),
        _section("Spec, complete", f"<pre>{escape(report.spec)}</pre>" if report.spec else ""),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(report.name)} · kdspec</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _section(title: str, html: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{html}\n</section>" if html else ""


def _added(section: Section | FailedSection) -> str:
    if isinstance(section, FailedSection):
        text = f"The section of {escape(section.plugin)} is missing: {escape(section.reason)}"
        return f'<p class="note warning">{text}</p>'
    return _section(section.title, section.html)


def _header(report: Report) -> str:
    end = report.end
    match end.event if end else None:
        case RunFailed() as failure:
            state, status = "failed", f"failed: {failure.code} {failure.message}"
        case RunFinished():
            state, status = "finished", "finished"
        case _:
            state, status = "open", "not finished"
    if report.records:
        first, last = (record.time.astimezone(UTC) for record in (report.records[0], end or report.records[-1]))
        status += f" · started {first:%Y-%m-%d %H:%M} UTC · {duration((last - first).total_seconds())} in total"
    starts = sum(1 for _ in report.of(RunStarted))
    status += f" in {starts} starts" if starts > 1 else ""
    title = f'<h1>{escape(report.name)}</h1>\n<p class="state {state}">{escape(status)}</p>'
    return f"<header>\n{title}\n{_figures(report)}</header>"


def _figures(report: Report) -> str:
    """The student's main figures, in large type."""
    index = next((i for i, row in enumerate(report.table) if row["role"] == "student"), None)
    if index is None:
        return ""
    row = report.table[index]
    minor = {"loss", *row["metrics"]} - {row["selected_by"]}
    tiles = "".join(
        f"<div><dt>{escape(column.name)}</dt><dd>{escape(column.cells[index].text)}"
        f"<small>{escape(column.cells[index].beside)}</small></dd></div>"
        for column in columns(report.table)
        if column.number and column.cells[index].text and column.name not in minor
    )
    return f'<dl class="figures">{tiles}</dl>\n'


def _models(report: Report) -> str:
    if not report.table:
        return ""
    found = columns(report.table)
    head = [(column.name, column.number) for column in found]
    rows = [
        [
            f"{escape(column.cells[i].text)} <small>{escape(column.cells[i].beside)}</small>".replace(
                " <small></small>", ""
            )
            for column in found
        ]
        for i in range(len(report.table))
    ]
    return _table(head, rows) + f'<p class="note">{escape(caption(report.table))}</p>'


def _stages(report: Report) -> list[str]:
    return list(dict.fromkeys(event.stage for event in report.of(StageStarted)))


def _curves(report: Report, stage: str) -> str:
    steps = [event for event in report.of(StepDone) if event.stage == stage]
    evaluated = [event for event in report.of(Evaluated) if event.stage == stage]
    planned = (report.plan or {}).get("stages", ())
    model = next((each["student"] for each in planned if each["name"] == stage), STUDENT)
    best = next((e.best_step for e in report.of(StageFinished) if e.stage == stage), None)
    charts = [_figure("loss", [(e.step, e.loss) for e in steps], "weighted total")] if steps else []
    for name in dict.fromkeys(term for event in steps for term in event.terms):
        points = [(e.step, e.terms[name]) for e in steps if name in e.terms]
        weights = [e.weights[name] for e in steps if name in e.weights]
        charts.append(_figure(name, points, _weight(weights)))
    for name in dict.fromkeys(metric for event in evaluated for metric in event.metrics):
        points = [(e.step, e.metrics[name]) for e in evaluated if name in e.metrics]
        charts.append(_figure(f"{evaluated[0].split} {name}", points, evaluated[0].model, mark=best))
    for name in dict.fromkeys(group for event in steps for group in event.lr):
        points = [(e.step, e.lr[name]) for e in steps if name in e.lr]
        charts.append(_figure("learning rate", points, model if name == STUDENT else name))
    norms = [(e.step, e.grad_norm) for e in steps if e.grad_norm is not None]
    charts.append(_figure("gradient norm", norms, "before clipping"))
    drawn = [figure for figure in charts if figure]
    return f'<div class="charts">{"".join(drawn)}</div>' if drawn else ""


def _figure(name: str, points: Sequence[tuple[float, float]], aside: str, *, mark: float | None = None) -> str:
    svg = chart(points, label=f"{name} by step", mark=mark)
    if not svg:
        return ""
    caption_html = f"<span>{escape(number(points[-1][1]))}</span><b>{escape(name)}</b><small>{escape(aside)}</small>"
    return f"<figure><figcaption>{caption_html}</figcaption>{svg}</figure>"


def _weight(weights: Sequence[float]) -> str:
    if not weights:
        return "unweighted"
    first, last = text.plain(float(weights[0])), text.plain(float(weights[-1]))
    return f"unweighted; weight {first}" + ("" if first == last else f" → {last}")


def _plan(report: Report) -> str:
    if report.plan is None:
        return ""
    models = [
        [
            escape(model["name"]),
            escape(text.size(model["facts"])),
            escape(text.roles(model)),
            f"<code>{escape(text.setting(model['model']).plain)}</code>",
        ]
        for model in report.plan["models"]
    ]
    tasks = [
        [escape(task["name"]), f"<code>{escape(text.setting(task['task']).plain)}</code>"]
        for task in report.plan["tasks"]
    ]
    parts = [_table([("model", False), ("size", False), ("stages", False), ("made from", False)], models)]
    parts.append(_table([("task", False), ("data and inputs", False)], tasks))
    for index, stage in enumerate(report.plan["stages"], start=1):
        parts.append(f"<h3>{escape(text.stage_title(index, stage).plain)}</h3>")
        parts.append(_terms(stage))
        details = [(name, line.plain) for name, line in text.details(stage)]
        parts.append(_pairs(details))
    parts.append(f'<p class="note">{escape(text.legend().plain)}</p>')
    return "".join(parts)


def _caches(report: Report) -> str:
    """The last state of each cache, with the rows read from it over all starts of the run."""
    last: dict[tuple[str, str], CacheState] = {}
    hits: dict[tuple[str, str], int] = {}
    for event in report.of(CacheState):
        key = (event.stage, event.teacher)
        last[key], hits[key] = event, hits.get(key, 0) + event.hits
    rows = [
        [
            escape(stage),
            escape(teacher),
            escape(
                ", ".join(event.features)
                if event.used
                else f"not cached: {event.reason or 'the disk could not be written'}"
            ),
            size(event.row_bytes) if event.used else "",
            size(event.bytes) if event.used else "",
            f"{hits[stage, teacher]:,}" if event.used else "",
            f"<code>{escape(event.folder)}</code>" if event.used else "",
        ]
        for (stage, teacher), event in last.items()
    ]
    names = ("stage", "teacher", "features", "per row", "total", "rows read", "folder")
    return _table([(name, name in ("per row", "total", "rows read")) for name in names], rows) if rows else ""


def _preflight(report: Report) -> str:
    """What was found at the rows and models before each stage, by its last start."""
    last = {event.stage: event for event in report.of(Preflight)}
    rows = [
        [escape(cell) for cell in (stage, *cells)] for stage, event in last.items() for cells in preflight_rows(event)
    ]
    names = ("stage", "task or model", "rows, and checks left out", "answers", "alone or in a batch")
    return _table([(name, False) for name in names], rows) if rows else ""


def _terms(stage: Mapping[str, Any]) -> str:
    head = [(name, False) for name in text.TERM_COLUMNS]
    rows = [[escape(cell.plain) for cell in cells] for cells in text.terms(stage)]
    return _table(head, rows)


def _notes(report: Report) -> str:
    items = "".join(f'<li class="{event.level}">{escape(event.text)}</li>' for event in report.of(Note))
    return f"<ul>{items}</ul>" if items else ""


def _environment(report: Report) -> str:
    last = None
    for event in report.of(RunStarted):
        last = event
    if last is None:
        return ""
    pairs: list[tuple[str, str]] = [*last.versions.items(), ("seed", str(last.seed)), ("folder", str(report.folder))]
    return _pairs(pairs)


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in pairs)
    return f'<dl class="pairs">{items}</dl>' if items else ""


def _table(head: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]]) -> str:
    """A table of HTML cells; the flag of a column is whether it has numbers."""

    def cells(tag: str, values: Iterable[str]) -> Iterator[str]:
        for (_, numeric), value in zip(head, values, strict=True):
            yield f'<{tag} class="number">{value}</{tag}>' if numeric else f"<{tag}>{value}</{tag}>"

    top = "".join(cells("th", (escape(name) for name, _ in head)))
    body = "".join(f"<tr>{''.join(cells('td', row))}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
