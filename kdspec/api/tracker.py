"""Trackers: what a package does that logs runs to a service, such as Weights & Biases or MLflow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml

from kdspec.events import Evaluated, Event, RunFailed, RunFinished, RunStarted, StageStarted, StepDone, curves

RunOutcome = Literal["finished", "failed", "stopped"]
"""How a start of a run ended; `stopped`: by a signal, or the tracker itself raised an error before the end."""

_FACTS = ("model", "role", "task", "split", "parameters", "bytes", "latency_ms")


@dataclass(frozen=True)
class FinalResults:
    """What a finished run has at its end: the table of its models, and the report."""

    rows: Sequence[Mapping[str, Any]]
    """A row for each model and task, with the keys of `table.json` except `errors`, which has texts of the data."""
    report: Path | None
    """The file of the HTML report; None if it could not be written."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of `table`: `model`, `role`, `task`, `split`, `parameters`, `bytes`, `latency_ms`, and the metrics."""
        return tuple(dict.fromkeys((*_FACTS, *(name for row in self.rows for name in row["metrics"]))))

    @property
    def table(self) -> list[dict[str, Any]]:
        """The rows as a flat table: each has a value for each of `columns`, None where the row has no such metric."""
        empty = dict.fromkeys(self.columns)
        return [empty | {name: row[name] for name in _FACTS} | row["metrics"] for row in self.rows]

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics by `task/model/metric`, as numbers to compare runs by."""
        return {
            f"{row['task']}/{row['model']}/{name}": value for row in self.rows for name, value in row["metrics"].items()
        }


class Tracker(ABC):
    """Logs runs to a service: settings, curves, the final table and the report. The observer of its package hands on the events:

        @hookimpl
        def kdspec_observe(event: Event, session: Any) -> None:
            Lines.observe(event, session)

    Each start of a run that names the tracker with `--track` has an object of its own, whose methods are called on rank 0 in
    this order: `begin`, `log_settings` of a new run, `begin_stage` and `log` as often as there are stages and curves,
    `log_failure` of a failed run or `log_results` of a finished one, and `end`. The run goes on after an error in any of
    them, with one warning; of the others only `end` is then called.

    Args:
        folder: the folder of the run.
    """

    name: ClassVar[str]
    """The name for `--track`: that of the entry point, or of the plugin's file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._outcome: RunOutcome = "stopped"
        self._rows: tuple[Mapping[str, Any], ...] = ()

    @property
    def spec(self) -> dict[str, Any]:
        """The complete spec with every default; environment variables have their names in it, not their values."""
        found: dict[str, Any] = yaml.safe_load((self.folder / "spec.yaml").read_text(encoding="utf-8"))
        return found

    @abstractmethod
    def begin(self, started: RunStarted, known: str | None) -> str:
        """Begin a run of the service, or continue one.

        Args:
            started: the event, with the name of the run and the versions of the libraries.
            known: what an earlier start of this run returned, so that the curves continue; None for a new run.

        Returns:
            The identifier of the service's run, which is kept as `<name>-id.txt` in the folder.
        """

    def log_settings(self, started: RunStarted) -> None:  # noqa: B027 - most services take them in `begin`
        """Log the settings of a new run, once its identifier is kept; by default nothing, for services that take them in `begin`.

        Args:
            started: the event, as for `begin`.
        """

    def begin_stage(self, stage: str) -> None:  # noqa: B027 - most services need nothing
        """Called when a stage begins or resumes; by default it does nothing.

        Args:
            stage: its name, with which the names of its curves begin.
        """

    @abstractmethod
    def log(self, values: Mapping[str, float], *, stage: str, step: int) -> None:
        """Log points of curves.

        Args:
            values: by `<stage>/<name>`, such as `distil/loss`, `distil/terms/soft_labels` or `distil/validation/accuracy`.
            stage: the stage; each counts its own steps.
            step: the number of its optimizer steps that are done. After a stop some steps are done again.
        """

    @abstractmethod
    def log_failure(self, failure: str) -> None:
        """Log why the run failed: the code and the message of its diagnostic."""

    @abstractmethod
    def log_results(self, results: FinalResults) -> None:
        """Log the final table, its metrics and the report of a finished run."""

    @abstractmethod
    def end(self, outcome: RunOutcome) -> None:
        """End this start of the run in the service; a stopped or failed run may be continued by a later start."""

    @classmethod
    def observe(cls, event: Event, session: Any) -> None:
        """Take an event of a run, with the arguments of `kdspec_observe`. Runs that do not name the tracker are left alone."""
        if cls.name not in session.track:
            return
        if isinstance(event, RunStarted):
            begun = cls(session.folder)
            begun._begin(event)
            session.kept[cls.name] = begun
            session.at_end.callback(begun._end)
        # A start that is refused before it changes anything has an end and no beginning.
        elif isinstance(tracker := session.kept.get(cls.name), cls):
            tracker._take(event)  # noqa: SLF001 - it is one of this class

    def _begin(self, started: RunStarted) -> None:
        file = self.folder / f"{self.name}-id.txt"
        known = file.read_text(encoding="utf-8") if file.is_file() else None
        file.write_text(self.begin(started, known), encoding="utf-8")
        if known is None:
            self.log_settings(started)

    def _take(self, event: Event) -> None:
        match event:
            case StageStarted():
                self.begin_stage(event.stage)
            case StepDone() | Evaluated():
                values = {f"{event.stage}/{name}": value for name, value in curves(event).items()}
                self.log(values, stage=event.stage, step=event.step)
            case RunFinished():
                self._outcome, self._rows = "finished", tuple(event.table.values())
            case RunFailed():
                self._outcome = "failed"
                self.log_failure(f"{event.code} {event.message}")
            case _:
                pass

    def _end(self) -> None:
        if self._outcome == "finished":
            report = self.folder / "report.html"
            self.log_results(FinalResults(self._rows, report if report.is_file() else None))
        self.end(self._outcome)
