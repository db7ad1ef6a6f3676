"""Runs of kdspec in Trackio: `kdspec run spec.yaml --track trackio`."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

from kdspec import FinalResults, RunOutcome, Tracker, hookimpl
from kdspec.events import Event, RunStarted


@hookimpl
def kdspec_observe(event: Event, session: Any) -> None:
    """Log settings, curves, the final table and the report. What goes wrong is reported once by kdspec."""
    TrackioTracker.observe(event, session)


class TrackioTracker(Tracker):
    """A run in Trackio, which prints: a command's standard output is its result, so it goes to standard error."""

    name = "trackio"
    run: Any

    def begin(self, started: RunStarted, known: str | None) -> str:
        """Begin or continue the run, with the spec as its configuration."""
        import trackio

        # Trackio knows a run by its name alone.
        name = known or f"{started.name}-{secrets.token_hex(3)}"
        with redirect_stdout(sys.stderr):
            self.run = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", "kdspec"),
                name=name,
                config={**self.spec, "versions": started.versions},
                resume="allow",
                embed=False,
            )
        return name

    def log(self, values: Mapping[str, float], *, stage: str, step: int) -> None:
        """Log points of curves."""
        del stage
        self.run.log(dict(values), step=step)

    def log_failure(self, failure: str) -> None:
        """Log the failure as a value of the run."""
        self.run.log({"failure": failure})

    def log_results(self, results: FinalResults) -> None:
        """Log the table, its metrics as numbers to compare runs by, and the report as an artifact."""
        import pandas as pd
        import trackio

        with redirect_stdout(sys.stderr):
            table = trackio.Table(dataframe=pd.DataFrame(results.table))
            self.run.log({**results.metrics, "table": table})
            if results.report is not None:
                self.run.log_artifact(str(results.report), name=f"report-{self.run.name}", type="report")

    def end(self, outcome: RunOutcome) -> None:
        """Write what is left."""
        del outcome
        with redirect_stdout(sys.stderr):
            self.run.finish()
