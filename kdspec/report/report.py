"""The report of a run, from its folder, as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kdspec.api.report import Report, Section
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.evaluation.result_row import read_table
from kdspec.engine.identity.record import FILE, IdentityRecord, NotRecorded
from kdspec.engine.run import event_log
from kdspec.engine.run.durable_files import atomic_write
from kdspec.planning import outline_form
from kdspec.registry.plugins import Plugins
from kdspec.report.contents import FailedSection
from kdspec.report.page import page
from kdspec.source import read_back
from kdspec.source.read_back import Damage

_WITHOUT = "restore the file, or remove it: the report is then without it"


def check(folder: Path) -> Path:
    """The log in the folder of a run. Raises KD003 if the folder is not that of a run."""
    log = folder / "events.jsonl"
    if not log.is_file():
        message = f"`{folder}` is not the folder of a run: it has no `events.jsonl`"
        inside = next((place for place in folder.parents if (place / "events.jsonl").is_file()), None)
        help_ = f"name the folder of the run, `{inside}`" if inside else "name a folder such as `runs/my-run`"
        raise FindingError(Finding("KD003", message, help=help_))
    return log


def read(folder: Path) -> Report:
    """The folder of a run; its log is read when the page is made, and damaged lines are passed over.

    Raises:
        FindingError: KD003 if there is none, or its table, plan or spec is damaged.
    """
    records = event_log.Records(check(folder))
    return Report(
        folder=folder,
        records=records,
        table=tuple(asdict(row) for row in read_table(folder / "table.json") or ()),
        plan=_plan(folder / "plan.json"),
        spec=_text(folder / "spec.yaml"),
        reads=tuple(_reads(folder)),
        damaged=records.damaged.texts,
    )


def html(report: Report, plugins: Plugins) -> str:
    """The page, with the sections of plugins; a note replaces one that fails."""
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


def _reads(folder: Path) -> Iterator[dict[str, Any]]:
    """What the stages that have begun have read."""
    try:
        stages = IdentityRecord.loads(_text(folder / FILE) or None).stages
    except NotRecorded:
        return
    reads = {reading.key: reading for stage in stages.values() for reading in stage.reads}
    for read in reads.values():
        yield {"content": read.words.replace("`", ""), "place": read.place, "rows": read.rows, "digest": read.digest}


def _plan(path: Path) -> Mapping[str, Any] | None:
    """The plan; None if there is none, or one of another version."""
    try:
        data = read_back.mapping(path)
        return outline_form.checked(data) if outline_form.is_of_this_version(data) else None
    except FileNotFoundError:
        return None
    except Damage as damage:
        raise read_back.refused(path, damage, help=_WITHOUT) from damage


def _text(path: Path) -> str:
    """The text of a file; empty if there is none."""
    try:
        return read_back.text(path)
    except FileNotFoundError:
        return ""
    except Damage as damage:
        raise read_back.refused(path, damage, help=_WITHOUT) from damage
