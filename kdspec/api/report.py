"""The report of a run: the data of its folder, and the sections that plugins add."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kdspec.events import Event, Record, RunFailed, RunFinished, RunStarted

E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Section:
    """A part of the report that a plugin adds.

    The HTML is inserted unchanged: escape what is not markup. The page blocks scripts and external resources; styles, SVG
    and images as `data:` work.
    """

    title: str
    html: str


@dataclass
class Ending:
    """Finds the event that ended a run, from its records in their order."""

    found: Record | None = None
    """The end, if the records so far have one."""
    _begun: bool = False

    def take(self, record: Record) -> None:
        """Look at the next record."""
        if isinstance(record.event, RunStarted):
            self.found, self._begun = None, True
        elif isinstance(record.event, RunFinished | RunFailed) and (self._begun or self.found is None):
            self.found, self._begun = record, False


@dataclass(frozen=True)
class Report:
    """The data of a run's folder; the run may be unfinished."""

    folder: Path
    records: Iterable[Record]
    """All events with their times, oldest first. They are read from the log each time: a log may be larger than the memory."""
    table: tuple[Mapping[str, Any], ...] = ()
    """The rows of `table.json`; empty before the end of the run."""
    plan: Mapping[str, Any] | None = None
    """`plan.json`, as `kdspec.planning.outline.outline` describes it; None if there is none of this version."""
    spec: str = ""
    """The complete spec as YAML."""
    reads: tuple[Mapping[str, Any], ...] = ()
    """What the run has read: `content`, its `place` in the spec, the number of `rows` or None, and the `digest`."""
    damaged: Sequence[str] = ()
    """A text for each line of the log that is damaged and was passed over, as far as it has been read."""

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
        ending = Ending()
        for record in self.records:
            ending.take(record)
        return ending.found
