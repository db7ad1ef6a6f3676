"""Runs of kdspec in MLflow: `kdspec run spec.yaml --track mlflow`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from kdspec import FinalResults, RunOutcome, Tracker, hookimpl
from kdspec.events import Event, RunStarted

_NO_NAME = re.compile(r"[^\w\-. :/]")
"""Characters that a metric of MLflow cannot have, such as the `@` of `ndcg@10`."""
_LONGEST = 6000
"""Characters of a parameter."""
_AT_ONCE = 100
"""Parameters of a request."""
_STATUS: Mapping[RunOutcome, str] = MappingProxyType({"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"})


@hookimpl
def kdspec_observe(event: Event, session: Any) -> None:
    """Log settings, curves, the final table and the report. What goes wrong is reported once by kdspec."""
    MlflowTracker.observe(event, session)


class MlflowTracker(Tracker):
    """A run in MLflow: the client, and the id of the run."""

    name = "mlflow"
    client: Any
    run: str

    def begin(self, started: RunStarted, known: str | None) -> str:
        """Begin or continue the run, in an experiment that is made if there is none."""
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient()
        if known is not None:
            self.run = known
            self.client.update_run(known, status="RUNNING")
            return known
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "kdspec")
        found = self.client.get_experiment_by_name(name)
        experiment = self.client.create_experiment(name) if found is None else found.experiment_id
        run = self.client.create_run(experiment, run_name=started.name, tags=dict(started.versions))
        self.run = str(run.info.run_id)
        return self.run

    def log_settings(self, started: RunStarted) -> None:
        """Log the spec as parameters, by their paths, and as a file."""
        from mlflow.entities import Param

        del started
        params = [Param(_NO_NAME.sub("_", key), str(value)[:_LONGEST]) for key, value in _flat(self.spec)]
        for start in range(0, len(params), _AT_ONCE):
            self.client.log_batch(self.run, params=params[start : start + _AT_ONCE])
        self.client.log_artifact(self.run, str(self.folder / "spec.yaml"))

    def log(self, values: Mapping[str, float], *, stage: str, step: int) -> None:
        """Log points of curves."""
        del stage
        self._log_metrics(values, step)

    def log_failure(self, failure: str) -> None:
        """Log the failure as a tag."""
        self.client.set_tag(self.run, "failure", failure)

    def log_results(self, results: FinalResults) -> None:
        """Log the table, its metrics as numbers to compare runs by, and the report as an artifact."""
        rows = results.table
        table = {column: [row[column] for row in rows] for column in results.columns}
        self.client.log_table(self.run, table, "table.json")
        self._log_metrics(results.metrics, 0)
        if results.report is not None:
            self.client.log_artifact(self.run, str(results.report))

    def end(self, outcome: RunOutcome) -> None:
        """Mark the run as ended."""
        self.client.set_terminated(self.run, _STATUS[outcome])

    def _log_metrics(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(_NO_NAME.sub("_", name), float(value), now, step) for name, value in values.items()]
        self.client.log_batch(self.run, metrics=metrics)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The settings by their paths, as `--set` names them."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value
