"""The events of a run on disk, as JSON lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.run.durable_files import atomic_write, cannot_write, flush
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
    stage_of,
    to_json,
)


class EventLog:
    """Appends events to a file, for the process that holds the run's lock; only `trim` shortens the file.

    An incomplete last line, which a killed process leaves, is removed when the log is opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            _drop_torn_line(path)
        except OSError as error:
            raise cannot_write(path, error) from error

    def append(self, event: Event) -> None:
        """Write one event with the time. Raises KD508 if it cannot be written; the log is then unchanged."""
        record = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **to_json(event)}
        line = json.dumps(record, allow_nan=False).encode("ascii") + b"\n"
        try:
            with self.path.open("ab", buffering=0) as file:
                size = file.tell()
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

    def trim(self, stage: str, step: int, *, evaluates: bool = False) -> None:
        """Remove the records that a run which resumes `stage` after `step` steps will write again.

        These are the records of that stage after the step, its end, and those of stages that began after it; with
        `evaluates` that of its evaluation at the step too. Records without a stage are kept. Raises KD003 for a damaged log,
        which is left unchanged.
        """
        if not self.path.exists():
            return
        lines = list(_lines(self.path))
        stages = list(dict.fromkeys(name for _, (_, event) in lines if (name := stage_of(event))))
        later = set(stages[stages.index(stage) + 1 :]) if stage in stages else set()
        kept = [line for line, (_, event) in lines if not _is_undone(event, stage, step, later, evaluates)]
        atomic_write(self.path, b"".join(kept))


def read(path: Path) -> Iterator[Record]:
    """The records of a log, oldest first; an incomplete last line is skipped.

    Raises KD003 if the file cannot be read or another line of it is damaged.
    """
    return (record for _, record in _lines(path))


@dataclass(frozen=True)
class Records:
    """The records of a log, oldest first, read again each time, in the memory of one line. Raises KD003 as `read` does."""

    path: Path

    def __iter__(self) -> Iterator[Record]:
        return read(self.path)


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


def _lines(path: Path) -> Iterator[tuple[bytes, Record]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    yield line, _record(path, number, line)
    except OSError as error:
        raise FindingError(Finding("KD003", f"cannot read `{path}`: {error.strerror}")) from error


def _record(path: Path, number: int, line: bytes) -> Record:
    try:
        data = json.loads(line)
        record = data if isinstance(data, dict) else {}
        event = from_json(record)
        return Record(datetime.fromisoformat(str(record.get("time"))), event)
    except (ValueError, RecursionError) as error:
        raise FindingError(
            Finding("KD003", f"line {number} of `{path}` is not an event of a run", notes=(f"{error}",))
        ) from error


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
        if whole < end:
            file.truncate(whole)
