"""The report's HTML page: self-contained, for light and dark themes and any width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC
from html import escape
from typing import Any

from kdspec.api.report import Report, Section
from kdspec.events import Note, RunFailed, RunFinished
from kdspec.render import plan as text
from kdspec.render.clean import visible
from kdspec.render.preflight import preflight_rows
from kdspec.render.progress import duration
from kdspec.render.rehearsal import size
from kdspec.render.table import caption, columns
from kdspec.report.contents import FailedSection, with_contents
from kdspec.report.curves import curve_sections
from kdspec.report.differences import difference_sections
from kdspec.report.digest import Digest
from kdspec.report.errors import error_sections
from kdspec.report.exports import export_sections
from kdspec.report.reliability import reliability_sections
from kdspec.report.style import STYLE

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(report: Report, sections: Sequence[Section | FailedSection]) -> str:
    """The whole page. Everything but the HTML of a plugin's section is escaped, and no character is invisible.

    The log is read once. Raises KD003 if it is damaged.
    """
    digest = Digest.of(report.records)
    name = report.folder.name if digest.name is None else digest.name
    parts = [
        Section("Models", _models(report)),
        *(
            Section(title, html)
            for sections_of in (error_sections, difference_sections, reliability_sections)
            for title, html in sections_of(report.table)
        ),
        *(Section(title, html) for title, html in curve_sections(digest, report.plan)),
        *export_sections(report),
        Section("Preflight", _preflight(digest)),
        Section("Teacher caches", _caches(digest)),
        Section("Plan", _plan(report)),
        Section("Made from", _reads(report)),
        *sections,
        Section("Notes", _notes(report, digest)),
        Section("Environment", _environment(report, digest)),
        Section("Spec, complete", _folded(report.spec) if report.spec else ""),
    ]
    body = [_header(report, digest, name), *with_contents(parts)]
    return visible(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(name)} · kdspec</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _folded(spec: str) -> str:
    """The spec, closed until it is asked for: its defaults are most of a page."""
    return f"<details>\n<summary>every setting, defaults included</summary>\n<pre>{escape(spec)}</pre>\n</details>"


def _header(report: Report, digest: Digest, name: str) -> str:
    end = digest.ending.found
    match end.event if end else None:
        case RunFailed() as failure:
            state, status = "failed", f"failed: {failure.code} {failure.message}"
        case RunFinished():
            state, status = "finished", "finished"
        case _:
            state, status = "open", "not finished"
    if digest.first is not None and digest.last is not None:
        first, last = (time.astimezone(UTC) for time in (digest.first, end.time if end else digest.last))
        status += f" · started {first:%Y-%m-%d %H:%M} UTC · {duration((last - first).total_seconds())} in total"
    status += f" in {digest.starts} starts" if digest.starts > 1 else ""
    title = f'<h1>{escape(name)}</h1>\n<p class="state {state}">{escape(status)}</p>'
    return f"<header>\n{title}\n{_figures(report)}</header>"


def _figures(report: Report) -> str:
    """The student's main figures, in large type."""
    index = next((i for i, row in enumerate(report.table) if row["role"] == "student"), None)
    if index is None:
        return ""
    row = report.table[index]
    minor = {"loss", *row["metrics"]} - {row["selected_by"], *(("ece",) if row.get("calibration") else ())}
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


def _caches(digest: Digest) -> str:
    """The last state of each cache, with the rows read from it over all starts of the run."""
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
            f"{hits:,}" if event.used else "",
            f"<code>{escape(event.folder)}</code>" if event.used else "",
        ]
        for (stage, teacher), (event, hits) in digest.caches.items()
    ]
    names = ("stage", "teacher", "features", "per row", "total", "rows read", "folder")
    return _table([(name, name in ("per row", "total", "rows read")) for name in names], rows) if rows else ""


def _preflight(digest: Digest) -> str:
    """What was found at the rows and models before each stage, by its last start."""
    rows = [
        [escape(cell) for cell in (stage, *cells)]
        for stage, event in digest.preflights.items()
        for cells in preflight_rows(event)
    ]
    names = ("stage", "task or model", "rows, and checks left out", "answers", "alone or in a batch")
    return _table([(name, False) for name in names], rows) if rows else ""


def _reads(report: Report) -> str:
    """Rows, weights and the rest that the run has read, with their checksums."""
    rows = [
        [
            escape(read["content"]),
            escape(read["place"]),
            "" if read["rows"] is None else f"{read['rows']:,}",
            f"<code>{escape(read['digest'])}</code>",
        ]
        for read in report.reads
    ]
    head = ("content", "place in the spec", "rows", "SHA-256, commit or version")
    return _table([(name, name == "rows") for name in head], rows) if rows else ""


def _terms(stage: Mapping[str, Any]) -> str:
    head = [(name, False) for name in text.TERM_COLUMNS]
    rows = [[escape(cell.plain) for cell in cells] for cells in text.terms(stage)]
    return _table(head, rows)


def _notes(report: Report, digest: Digest) -> str:
    def items(notes: Iterable[Note]) -> str:
        return "".join(f'<li class="{note.level}">{escape(note.text)}</li>' for note in notes)

    left_out = digest.noted - len(digest.notes) - len(digest.last_notes)
    between = f"<li>… {left_out:,} more notes, which the log has …</li>" if left_out else ""
    damaged = items(Note("warning", text) for text in report.damaged)
    found = damaged + items(digest.notes) + between + items(digest.last_notes)
    return f"<ul>{found}</ul>" if found else ""


def _environment(report: Report, digest: Digest) -> str:
    last = digest.start
    if last is None:
        return ""
    # The log has no value of the environment: the plan has the name of a variable for the seed, and the log for the run.
    seed = last.seed if last.seed is not None or report.plan is None else report.plan["seed"]["value"]
    named = digest.name is not None and "${" in digest.name
    folder = report.folder.parent / str(digest.name) if named else report.folder
    pairs: list[tuple[str, str]] = [*last.versions.items(), ("seed", str(seed)), ("folder", str(folder))]
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
