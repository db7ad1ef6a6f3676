"""Runs of kdspec in MLflow: `kdspec run spec.yaml --track mlflow`."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from kdspec import hookimpl
from kdspec.events import Evaluated, Event, RunFailed, RunFinished, RunStarted, StepDone, curves

NAME = "mlflow"
"""The name for `--track`, and the key of the state that is kept between events."""
_ID = "mlflow-id.txt"
"""The file in the run's folder by which a resumed run continues its curves."""
_NO_NAME = re.compile(r"[^\w\-. :/]")
"""Characters that a metric of MLflow cannot have, such as the `@` of `ndcg@10`."""
_LONGEST = 6000
"""Characters of a parameter."""
_AT_ONCE = 100
"""Parameters of a request."""


@hookimpl
def kdspec_observe(event: Event, session: Any) -> None:
    """Log settings, curves, the final table and the report. What goes wrong is reported once by kdspec."""
    if NAME not in session.track:
        return
    match event:
        case RunStarted():
            session.kept[NAME] = _begin(event, session.folder)
            session.kept[f"{NAME}.status"] = "KILLED"
            session.at_end.callback(_end, session)
        case StepDone() | Evaluated():
            client, run = session.kept[NAME]
            named = {f"{event.stage}/{name}": value for name, value in curves(event).items()}
            client.log_batch(run, metrics=_metrics(named, event.step))
        case RunFinished():
            session.kept[f"{NAME}.status"] = "FINISHED"
        case RunFailed():
            session.kept[f"{NAME}.status"] = "FAILED"
            client, run = session.kept[NAME]
            client.set_tag(run, "failure", f"{event.code} {event.message}")
        case _:
            pass


def _begin(event: RunStarted, folder: Path) -> tuple[Any, str]:
    """The client, and the id of the run in MLflow: a new one, or the one that this folder has begun."""
    from mlflow.entities import Param
    from mlflow.tracking import MlflowClient

    client, file = MlflowClient(), folder / _ID
    if file.is_file():
        run = file.read_text(encoding="utf-8")
        client.update_run(run, status="RUNNING")
        return client, run
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "kdspec")
    known = client.get_experiment_by_name(name)
    experiment = client.create_experiment(name) if known is None else known.experiment_id
    run = str(client.create_run(experiment, run_name=event.name, tags=dict(event.versions)).info.run_id)
    file.write_text(run, encoding="utf-8")
    spec = folder / "spec.yaml"
    flat = _flat(yaml.safe_load(spec.read_text(encoding="utf-8")))
    params = [Param(_NO_NAME.sub("_", key), str(value)[:_LONGEST]) for key, value in flat]
    for start in range(0, len(params), _AT_ONCE):
        client.log_batch(run, params=params[start : start + _AT_ONCE])
    client.log_artifact(run, str(spec))
    return client, run


def _end(session: Any) -> None:
    client, run = session.kept[NAME]
    status = session.kept[f"{NAME}.status"]
    if status == "FINISHED":
        _results(client, run, session)
    client.set_terminated(run, status)


def _results(client: Any, run: str, session: Any) -> None:
    """The table of the models, their metrics as numbers to compare runs by, and the report."""
    rows = json.loads((session.folder / "table.json").read_text(encoding="utf-8"))
    names = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    table = {
        "model": [row["model"] for row in rows],
        "role": [row["role"] for row in rows],
        "task": [row["task"] for row in rows],
        "split": [row["split"] for row in rows],
        "parameters": [row["parameters"] for row in rows],
        "bytes": [row["bytes"] for row in rows],
        "latency_ms": [row["latency_ms"] for row in rows],
        **{name: [row["metrics"].get(name) for row in rows] for name in names},
    }
    client.log_table(run, table, "table.json")
    named = {f"{row['task']}/{row['model']}/{name}": value for row in rows for name, value in row["metrics"].items()}
    client.log_batch(run, metrics=_metrics(named, 0))
    if (report := session.folder / "report.html").is_file():
        client.log_artifact(run, str(report))


def _metrics(named: Mapping[str, float], step: int) -> list[Any]:
    from mlflow.entities import Metric

    now = int(1000 * time.time())
    return [Metric(_NO_NAME.sub("_", name), float(value), now, step) for name, value in named.items()]


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The settings by their paths, as `--set` names them."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value
