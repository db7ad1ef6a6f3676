"""The events of a run on disk, as JSON lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from kdspec.diagnostics.diagnostic import excerpt
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.preflight import facts
from kdspec.engine.run.durable_files import cannot_write, flush
from kdspec.engine.run.log import log_summary, log_tail
from kdspec.engine.run.log.log_summary import LogMark, LogSummary
from kdspec.events import (
    CacheState,
    CheckpointSaved,
    Evaluated,
    Event,
    Note,
    Preflight,
    Record,
    RunFailed,
    RunFinished,
    RunStarted,
    StageFinished,
    StageSkipped,
    StageStarted,
    StepDone,
    from_json,
    to_json,
)
from kdspec.source import read_back
from kdspec.source.read_back import Damage

MOST_OF_A_LINE = 16 * 2**20
"""Bytes of one event."""
_YEARS = range(1970, 9999)
"""Years of an event, such that its time can be shown in any zone."""
_NAMED = 20
_BEGIN = LogMark(0, 0, 0)
_READ = 1_000
"""Lines that a start reads without writing a summary."""


class EventLog:
    """Appends events to a file, for the process that holds the run's lock; only `trim` shortens the file.

    An incomplete last line, which a killed process leaves, is removed when the log is opened. A summary beside the log saves
    a start from reading all of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._summary: LogSummary | None = None
        try:
            log_tail.finish(path)
            _drop_torn_line(path)
        except OSError as error:
            raise cannot_write(path, error) from error

    @property
    def summary(self) -> LogSummary:
        """What the log holds. Only what was logged after the last summary on disk is read.

        Raises:
            FindingError: KD003 if that is damaged; without a summary on disk that is the whole log.
        """
        if self._summary is None:
            summary = log_summary.read(self.path) or LogSummary()
            if self.path.exists():
                known = summary.lines
                for line, (_, event) in _lines(self.path, start=LogMark(0, summary.offset, summary.lines)):
                    summary.take(event, len(line))
                if summary.lines > known + _READ:
                    self._write(summary)
            self._summary = summary
        return self._summary

    def append(self, event: Event) -> None:
        """Write one event with the time. Raises KD508 if it cannot be written; the log is then unchanged."""
        record = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **to_json(event)}
        line = json.dumps(record, allow_nan=False).encode("ascii") + b"\n"
        try:
            with self.path.open("ab", buffering=0) as file:
                size = file.tell()
                if not size and self._summary is None:
                    self._summary = LogSummary()
                try:
                    written = 0
                    # On a full disk the first write is short, and only the next one raises the error.
                    while written < len(line):
                        written += file.write(line[written:])
                    # An fsync per step would be slow, and steps can be repeated. Other events are rare and must survive
                    # a power failure.
                    if not isinstance(event, StepDone | Note):
                        flush(file.fileno())
                except BaseException:  # a stop too: half a line must not precede the next one
                    file.truncate(size)
                    raise
        except OSError as error:
            raise cannot_write(self.path, error, needed=len(line)) from error
        self._follow(event, size, len(line))

    def _follow(self, event: Event, at: int, size: int) -> None:
        """Add an event to the summary, and write it where a start may resume."""
        if self._summary is not None and self._summary.offset != at:  # somebody else has changed the log
            self._summary = None
        if self._summary is None:
            return
        self._summary.take(event, size)
        if isinstance(event, RunStarted | CheckpointSaved | StageFinished | RunFinished):
            self._write(self._summary)

    def _write(self, summary: LogSummary) -> None:
        # The events are in the log: without a summary the next start takes longer.
        with suppress(FindingError, OSError):
            log_summary.write(self.path, summary)

    def trim(self, stage: str, step: int, *, evaluates: bool = False) -> None:
        """Remove the records that a run which resumes `stage` after `step` steps will write again.

        These are the records of that stage after the step, its end, and those of stages that began after it; with
        `evaluates` that of its evaluation at the step too. Records without a stage are kept. Only the part behind the last
        checkpoint of that step or an earlier one is read and written.

        Raises:
            FindingError: KD003 if that part is damaged; the log is then unchanged.
        """
        summary = self.summary
        if stage not in summary.stages:
            return
        mark = summary.stages[stage].before(step)
        names = list(summary.stages)
        later = set(names[names.index(stage) + 1 :])
        lines = [(line, event) for line, (_, event) in _lines(self.path, start=mark)]
        kept = [(line, event) for line, event in lines if not _is_undone(event, stage, step, later, evaluates)]
        if len(kept) == len(lines):
            return
        log_tail.replace(self.path, mark.offset, b"".join(line for line, _ in kept))
        summary.cut(mark)
        for line, event in kept:
            summary.take(event, len(line))


def read(path: Path) -> Iterator[Record]:
    """The records of a log, oldest first; an incomplete last line is skipped.

    Raises:
        FindingError: KD003 if the file cannot be read, or another line of it is damaged.
    """
    return (record for _, record in _lines(path))


class DamagedLines:
    """The damaged lines of a log that were passed over, each once however often it is read."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        """The first ones, with the reason; the last text counts the others."""
        self._last = self._more = 0

    def add(self, number: int, text: str) -> None:
        """Note a line."""
        if number <= self._last:
            return
        self._last = number
        if len(self.texts) < _NAMED:
            self.texts.append(text)
            return
        self._more += 1
        self.texts[_NAMED:] = [f"and {self._more:,} more damaged lines"]


@dataclass(frozen=True)
class Records:
    """The records of a log, oldest first, read again each time, in the memory of one line. Damaged lines are passed over.

    Raises KD003 if the log cannot be read.
    """

    path: Path
    damaged: DamagedLines = field(default_factory=DamagedLines)

    def __iter__(self) -> Iterator[Record]:
        return (record for _, record in _lines(self.path, self.damaged))


def _is_undone(event: Event, stage: str, step: int, later: set[str], evaluates: bool) -> bool:  # noqa: FBT001 - as given
    match event:
        case RunStarted() | Note() | RunFinished() | RunFailed():
            return False
        case _ if event.stage != stage:
            return event.stage in later
        case StageStarted():
            return event.start_step > step
        case Preflight():
            return False
        case Evaluated() if evaluates:
            return event.step >= step
        case StepDone() | Evaluated() | CheckpointSaved() | CacheState():
            return event.step > step
        case StageFinished() | StageSkipped():
            # A stage that resumes has neither ended nor been skipped.
            return True


def _lines(path: Path, damaged: DamagedLines | None = None, start: LogMark = _BEGIN) -> Iterator[tuple[bytes, Record]]:
    try:
        with read_back.opened(path) as file:
            file.seek(start.offset)
            number = start.lines
            # With a limit: a file without an end of a line is not read as a whole.
            while line := file.readline(MOST_OF_A_LINE):
                number += 1
                if not line.endswith(b"\n"):
                    if len(line) < MOST_OF_A_LINE:  # the incomplete last line
                        return
                    raise Damage(f"line {number} has more than {MOST_OF_A_LINE:,} bytes")
                try:
                    record = parse(line)
                except ValueError as error:
                    if damaged is None:
                        message = f"line {number} of `{path}` is not an event of a run"
                        raise FindingError(Finding("KD003", message, notes=(f"{error}",))) from error
                    damaged.add(number, f"line {number} of `{path.name}` is not an event of a run: {error}")
                else:
                    yield line, record
    except OSError as error:
        raise FindingError(Finding("KD003", f"cannot read `{path}`: {error.strerror}")) from error
    except Damage as damage:
        raise read_back.refused(path, damage) from damage


def parse(line: bytes) -> Record:
    """The record of a line. Raises ValueError if it is none: the reason, with the place in the line."""
    data = read_back.parse(line)
    if not isinstance(data, dict):
        raise Damage("it is no JSON object")
    event = from_json(data)
    if isinstance(event, Preflight):
        event = replace(event, tasks=facts.checked(event.tasks))
    return Record(_time(data.get("time")), event)


def _time(written: object) -> datetime:
    """A time in UTC. Raises ValueError if it is none, has no zone, or is too long ago or ahead to be shown."""
    if not isinstance(written, str):
        raise Damage("it lacks `time`")
    found = datetime.fromisoformat(written)
    if found.tzinfo is None or found.year not in _YEARS:
        raise Damage(f"`time` is `{excerpt(written)}`, not a time of a run with its zone")
    return found.astimezone(UTC)


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        whole = end
        while whole:
            start = max(0, whole - 65_536)
            file.seek(start)
            newline = file.read(whole - start).rfind(b"\n")
            if newline >= 0:
                whole = start + newline + 1
                break
            whole = start
            if end - whole > MOST_OF_A_LINE:  # no event: it is not removed, and reported when the log is read
                return
        if whole < end:
            file.truncate(whole)
