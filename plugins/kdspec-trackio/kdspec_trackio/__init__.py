"""Runs of kdspec in Trackio: `kdspec run spec.yaml --track trackio`."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import yaml

from kdspec import hookimpl
from kdspec.events import Evaluated, Event, RunFailed, RunFinished, RunStarted, StepDone, curves

NAME = "trackio"
"""The name for `--track`, and the key of the state that is kept between events."""
_ID = "trackio-id.txt"
"""The file in the run's folder by which a resumed run continues its curves."""


@hookimpl
def kdspec_observe(event: Event, session: Any) -> None:
    """Log settings, curves, the final table and the report. What goes wrong is reported once by kdspec."""
    if NAME not in session.track:
        return
    match event:
        case RunStarted():
            session.kept[NAME] = _begin(event, session.folder)
            session.kept[f"{NAME}.finished"] = False
            session.at_end.callback(_end, session)
        case StepDone() | Evaluated():
            named = {f"{event.stage}/{name}": value for name, value in curves(event).items()}
            session.kept[NAME].log(named, step=event.step)
        case RunFinished():
            session.kept[f"{NAME}.finished"] = True
        case RunFailed():
            session.kept[NAME].log({"failure": f"{event.code} {event.message}"})
        case _:
            pass


def _begin(event: RunStarted, folder: Path) -> Any:
    """The run in Trackio: a new one, or the one that this folder has begun."""
    import trackio

    file = folder / _ID
    # Trackio knows a run by its name alone.
    name = file.read_text(encoding="utf-8") if file.is_file() else f"{event.name}-{secrets.token_hex(3)}"
    spec = yaml.safe_load((folder / "spec.yaml").read_text(encoding="utf-8"))
    with contextlib.redirect_stdout(sys.stderr):  # a command's standard output is its result
        run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", "kdspec"),
            name=name,
            config={**spec, "versions": event.versions},
            resume="allow",
            embed=False,
        )
    file.write_text(name, encoding="utf-8")
    return run


def _end(session: Any) -> None:
    run = session.kept[NAME]
    with contextlib.redirect_stdout(sys.stderr):
        if session.kept[f"{NAME}.finished"]:
            _results(run, session)
        run.finish()


def _results(run: Any, session: Any) -> None:
    """The table of the models, their metrics as numbers to compare runs by, and the report."""
    import pandas as pd
    import trackio

    rows = json.loads((session.folder / "table.json").read_text(encoding="utf-8"))
    columns = ("model", "role", "task", "split", "parameters", "bytes", "latency_ms")
    table = pd.DataFrame([{name: row[name] for name in columns} | row["metrics"] for row in rows])
    named = {f"{row['task']}/{row['model']}/{name}": value for row in rows for name, value in row["metrics"].items()}
    run.log({**named, "table": trackio.Table(dataframe=table)})
    if (report := session.folder / "report.html").is_file():
        run.log_artifact(str(report), name=f"report-{run.name}", type="report")
