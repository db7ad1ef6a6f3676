"""The runs in a folder: state, best metric, size and age of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.lock import holder
from kdspec.engine.run.run_folder import RunFolder
from kdspec.report.comparison.compared_run import LOG, read_run

RunState = Literal["finished", "running", "stopped", "failed", "damaged"]


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """One run, as far as its folder can be read."""

    folder: Path
    name: str
    """Its folder, relative to the one that was listed."""
    state: RunState
    detail: str = ""
    """How far it has come, why it failed, or what is damaged."""
    metric: str = ""
    """The metric that selects the best student; empty if it is not known."""
    value: float | None = None
    """Its value for the best student so far, on the validation rows."""
    lower_is_better: bool = False
    bytes: int
    """Bytes of all files of the folder, those of earlier runs in it included."""
    checkpoint_bytes: int
    """Bytes of its checkpoints."""
    changed: datetime
    """The last time an event was logged, in UTC."""


def folders(root: Path) -> Iterator[Path]:
    """The folders of runs in a folder, and in folders of it that are none themselves, such as those of a sweep."""
    for place in _inside(root):
        if (place / LOG).is_file():
            yield place
        else:
            yield from (inner for inner in _inside(place) if (inner / LOG).is_file())


def list_runs(root: Path) -> list[ListedRun]:
    """The runs in a folder, last changed first. A run that cannot be read is listed as damaged."""
    return sorted((_listed(folder, root) for folder in folders(root)), key=lambda run: run.changed, reverse=True)


def _inside(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(place for place in folder.iterdir() if place.is_dir() and not place.is_symlink())


def _listed(folder: Path, root: Path) -> ListedRun:
    unread = ListedRun(
        folder=folder,
        name=folder.relative_to(root).as_posix(),
        state="damaged",
        bytes=sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()),
        checkpoint_bytes=RunFolder(folder).checkpoint_bytes(),
        changed=datetime.fromtimestamp((folder / LOG).stat().st_mtime, UTC),
    )
    try:
        found = read_run(folder)
    except FindingError as error:
        return replace(unread, detail=error.findings[0].message)
    except DiagnosticError as error:
        return replace(unread, detail=error.diagnostics[0].message)
    state: RunState = "stopped" if found.status == "unfinished" else found.status
    if who := holder(folder):
        state = "running"
    return replace(
        unread,
        state=state,
        detail=", ".join(filter(None, (found.reason if state != "finished" else "", who))),
        metric=found.selected_by,
        value=found.value,
        lower_is_better=found.lower_is_better,
    )
