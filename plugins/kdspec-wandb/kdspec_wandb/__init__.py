"""Runs of kdspec in Weights & Biases: `kdspec run spec.yaml --track wandb`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from kdspec import hookimpl
from kdspec.events import Evaluated, Event, RunFailed, RunFinished, RunStarted, StageStarted, StepDone, curves

NAME = "wandb"
"""The name for `--track`, and the key of the state that is kept between events."""
_ID = "wandb-id.txt"
"""The file in the run's folder by which a resumed run continues its curves."""


@hookimpl
def kdspec_observe(event: Event, session: Any) -> None:
    """Log settings, curves, the final table and the report. What goes wrong is reported once by kdspec."""
    if NAME not in session.track:
        return
    match event:
        case RunStarted():
            session.kept[NAME] = _begin(event, session.folder)
            session.kept[f"{NAME}.code"] = 1
            session.at_end.callback(_end, session)
        case StageStarted():
            # Each stage counts its own steps.
            session.kept[NAME].define_metric(f"{event.stage}/*", step_metric=f"{event.stage}/step")
        case StepDone() | Evaluated():
            named = {f"{event.stage}/{name}": value for name, value in curves(event).items()}
            session.kept[NAME].log({**named, f"{event.stage}/step": event.step})
        case RunFinished():
            session.kept[f"{NAME}.code"] = 0
        case RunFailed():
            session.kept[NAME].summary["failure"] = f"{event.code} {event.message}"
        case _:
            pass


def _begin(event: RunStarted, folder: Path) -> Any:
    """The run in W&B: a new one, or the one that this folder has begun."""
    import wandb

    if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
        raise RuntimeError("not logged in to Weights & Biases: run `wandb login`, or set WANDB_MODE=offline")
    file = folder / _ID
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "kdspec"),
        name=event.name,
        id=file.read_text(encoding="utf-8") if file.is_file() else None,
        resume="allow",
        config={**yaml.safe_load((folder / "spec.yaml").read_text(encoding="utf-8")), "versions": event.versions},
        settings=wandb.Settings(console="off"),
    )
    file.write_text(run.id, encoding="utf-8")
    return run


def _end(session: Any) -> None:
    run, code = session.kept[NAME], session.kept[f"{NAME}.code"]
    if code == 0:
        _results(run, session)
    run.finish(exit_code=code)


def _results(run: Any, session: Any) -> None:
    """The table of the models, the student's metrics as the summary, and the report."""
    import wandb

    rows = json.loads((session.folder / "table.json").read_text(encoding="utf-8"))
    names = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    columns = ["model", "role", "task", "split", "parameters", "bytes", "latency_ms", *names]
    data = [
        [row["model"], row["role"], row["task"], row["split"], row["parameters"], row["bytes"], row["latency_ms"]]
        + [row["metrics"].get(name) for name in names]
        for row in rows
    ]
    run.log({"table": wandb.Table(columns=columns, data=data)})
    run.summary.update(
        {f"{row['task']}/{row['model']}/{name}": value for row in rows for name, value in row["metrics"].items()}
    )
    if (report := session.folder / "report.html").is_file():
        artifact = wandb.Artifact(f"report-{run.id}", type="report")
        artifact.add_file(str(report))
        run.log_artifact(artifact)
