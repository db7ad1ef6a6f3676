"""A summary of the log of a run: what a start needs of it, and where its last part begins."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from kdspec.engine.run.durable_files import atomic_write
from kdspec.events import CheckpointSaved, Event, RunFinished, RunStarted, StageFinished, stage_of
from kdspec.source import read_back
from kdspec.source.read_back import Count, Damage, Form

_COMPARED = 4096
"""Bytes before the end of the summarised part that must be as they were."""
_MARKS = 16
"""Checkpoints of a stage that are kept in mind."""


@dataclass(frozen=True)
class LogMark:
    """A place between two lines of the log, and the optimizer step of a stage there."""

    step: Count
    offset: Count
    """The bytes before it."""
    lines: Count
    """The lines before it."""


@dataclass
class StageLog:
    """The events of one stage."""

    begins: LogMark
    """Before its first event."""
    saved: Annotated[list[LogMark], Field(max_length=_MARKS)] = field(default_factory=list)
    """After the events of its last checkpoints."""
    finished: Annotated[list[LogMark], Field(max_length=_MARKS)] = field(default_factory=list)
    """After the events of its end."""

    def before(self, step: int) -> LogMark:
        """A place before which the log has no event of a later step of this stage, nor of a later stage."""
        return next((mark for mark in reversed(self.saved) if mark.step <= step), self.begins)


@dataclass
class LogSummary:
    """What the first `offset` bytes of a log hold."""

    format: Literal[1] = 1
    """The version of this form."""
    offset: Count = 0
    lines: Count = 0
    digest: str = ""
    """A checksum of the last bytes of the part, as it was when the summary was written."""
    versions: dict[str, str] = field(default_factory=dict)
    """The versions of the libraries at the last start."""
    over: bool = False
    """Whether the run has come to its end."""
    stages: dict[str, StageLog] = field(default_factory=dict)
    """In the order in which they began."""

    def take(self, event: Event, size: int) -> None:
        """Add the next event, whose line has `size` bytes."""
        before = LogMark(0, self.offset, self.lines)
        self.offset, self.lines = self.offset + size, self.lines + 1
        name = stage_of(event)
        if name and name not in self.stages:
            self.stages[name] = StageLog(before)
        match event:
            case RunStarted():
                self.versions = dict(event.versions)
            case RunFinished():
                self.over = True
            case CheckpointSaved():
                self._mark(self.stages[name].saved, event.step)
            case StageFinished():
                self._mark(self.stages[name].finished, event.step)
            case _:
                pass

    def has_saved(self, stage: str, step: int) -> bool:
        """Whether one of the last events of checkpoints of a stage is that of a step."""
        return stage in self.stages and any(mark.step == step for mark in self.stages[stage].saved)

    def has_finished(self, stage: str, step: int) -> bool:
        """Whether the end of a stage after a step is in the log."""
        return stage in self.stages and any(mark.step == step for mark in self.stages[stage].finished)

    def cut(self, mark: LogMark) -> None:
        """Forget what is behind a mark; starts and the end of the run are not forgotten, for they are never removed."""
        self.offset, self.lines = mark.offset, mark.lines
        self.stages = {name: stage for name, stage in self.stages.items() if stage.begins.offset < mark.offset}
        for stage in self.stages.values():
            stage.saved = [each for each in stage.saved if each.offset <= mark.offset]
            stage.finished = [each for each in stage.finished if each.offset <= mark.offset]

    def _mark(self, marks: list[LogMark], step: int) -> None:
        marks.append(LogMark(step, self.offset, self.lines))
        del marks[:-_MARKS]


_FORM: Form[LogSummary] = Form(LogSummary)


def path_of(log: Path) -> Path:
    """The file of the summary of a log."""
    return log.parent / "stages" / f"{log.stem}.summary"


def write(log: Path, summary: LogSummary) -> None:
    """Write the summary of the first part of a log. Raises KD508 or OSError if it cannot be written."""
    summary.digest = _digest(log, summary.offset)
    path_of(log).parent.mkdir(exist_ok=True)
    atomic_write(path_of(log), json.dumps(asdict(summary)) + "\n")


def read(log: Path) -> LogSummary | None:
    """The summary of a log; None if there is none, or if it is of another log or of another version."""
    try:
        found = read_back.read(path_of(log), _FORM)
        size = log.stat().st_size
        return found if found.offset <= size and found.digest == _digest(log, found.offset) else None
    except (OSError, Damage):
        return None


def _digest(log: Path, offset: int) -> str:
    if not offset:
        return ""
    with log.open("rb") as file:
        start = max(0, offset - _COMPARED)
        file.seek(start)
        return hashlib.sha256(file.read(offset - start)).hexdigest()
