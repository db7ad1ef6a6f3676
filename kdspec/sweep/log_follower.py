"""Follows the log of a run that another process writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kdspec.engine.run import event_log
from kdspec.events import Evaluated

_PART = 2**24
"""Bytes that are read at once."""


class LogFollower:
    """Reads what has been added to a log since the last look.

    A run that resumes removes the events of steps that it does again: then the log is read from its beginning.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def evaluations(self, stage: str) -> Iterator[Evaluated]:
        """The evaluations of a stage that were added; damaged lines are passed over."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, 2)
                if size < self._offset:
                    self._offset = 0
                file.seek(self._offset)
                added = file.read(_PART)
        except OSError:
            return
        whole = added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            if b'"Evaluated"' not in line:
                continue
            try:
                event = event_log.parse(line).event
            except ValueError:
                continue
            if isinstance(event, Evaluated) and event.stage == stage:
                yield event
