"""The report of a run, from its folder, as one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.run import event_log
from kdspec.engine.run.durable_files import atomic_write
from kdspec.engine.run.event_log import Record
from kdspec.events import Event, RunFailed, RunFinished, RunStarted
from kdspec.plan.outline import FORMAT
from kdspec.registry.plugins import Plugins

E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Section:
    """A part of the report that a plugin adds.

    The HTML is inserted unchanged: escape what is not markup. The page blocks scripts and external resources; styles, SVG
    and images as `data:` work.
    """

    title: str
    html: str


@dataclass(frozen=True)
class Report:
    """The data of a run's folder; the run may be unfinished."""

    folder: Path
    records: tuple[Record, ...]
    """All events with their times, oldest first."""
    table: tuple[Mapping[str, Any], ...] = ()
    """The rows of `table.json`; empty before the end of the run."""
    plan: Mapping[str, Any] | None = None
    """`plan.json`, as `kdspec.plan.outline.outline` describes it; None if there is none of this version."""
    spec: str = ""
    """The complete spec as YAML."""

    def of(self, kind: type[E]) -> Iterator[E]:
        """The events of one kind, oldest first."""
        for record in self.records:
            if isinstance(record.event, kind):
                yield record.event

    @property
    def name(self) -> str:
        """The name of the run."""
        return next((event.name for event in self.of(RunStarted)), self.folder.name)

    @property
    def end(self) -> Record | None:
        """The event that ended the run; None if it is running or was interrupted.

        A start that was refused before it changed anything does not count as an end.
        """
        found: Record | None = None
        begun = False
        for record in self.records:
            if isinstance(record.event, RunStarted):
                found, begun = None, True
            elif isinstance(record.event, RunFinished | RunFailed) and (begun or found is None):
                found, begun = record, False
        return found


def read(folder: Path) -> Report:
    """Read the folder of a run. Raises KD003 if there is none or its log is damaged."""
    log = folder / "events.jsonl"
    if not log.is_file():
        message = f"`{folder}` is not the folder of a run: it has no `events.jsonl`"
        raise FindingError(Finding("KD003", message, help="name a folder such as `runs/my-run`"))
    table, plan = _json(folder / "table.json"), _json(folder / "plan.json")
    return Report(
        folder=folder,
        records=tuple(event_log.read(log)),
        table=tuple(table) if isinstance(table, list) else (),
        plan=plan if isinstance(plan, dict) and plan.get("format") == FORMAT else None,
        spec=_text(folder / "spec.yaml"),
    )


def html(report: Report, plugins: Plugins) -> str:
    """The page, with the sections of plugins; a note replaces one that fails."""
    from kdspec.report.page import FailedSection, page

    sections: list[Section | FailedSection] = []
    for answer in plugins.call("kdspec_report", report=report):
        who = f"{answer.plugin.distribution} ({answer.plugin.origin})"
        if answer.error is not None:
            sections.append(FailedSection(who, f"{type(answer.error).__name__}: {answer.error}"))
        sections += [
            section if isinstance(section, Section) else FailedSection(who, f"returned {section!r}, not a Section")
            for section in answer.result or ()
        ]
    return page(report, sections)


def write(report: Report, plugins: Plugins) -> Path:
    """Write `report.html` into the run's folder, and return its path. Raises KD508 if it cannot be written."""
    path = report.folder / "report.html"
    atomic_write(path, html(report, plugins))
    return path


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except ValueError:
        return None
