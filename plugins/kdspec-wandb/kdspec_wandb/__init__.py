"""Runs of kdspec in Weights & Biases: `kdspec run spec.yaml --track wandb`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from kdspec import FinalResults, RunOutcome, Tracker, hookimpl
from kdspec.events import Event, RunStarted


@hookimpl
def kdspec_observe(event: Event, session: Any) -> None:
    """Log settings, curves, the final table and the report. What goes wrong is reported once by kdspec."""
    WandbTracker.observe(event, session)


class WandbTracker(Tracker):
    """A run in Weights & Biases."""

    name = "wandb"
    run: Any

    def begin(self, started: RunStarted, known: str | None) -> str:
        """Begin or continue the run, with the spec as its configuration."""
        import wandb

        if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
            raise RuntimeError("not logged in to Weights & Biases: run `wandb login`, or set WANDB_MODE=offline")
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "kdspec"),
            name=started.name,
            id=known,
            resume="allow",
            config={**self.spec, "versions": started.versions},
            settings=wandb.Settings(console="off"),
        )
        return str(self.run.id)

    def begin_stage(self, stage: str) -> None:
        """Give the curves of a stage an axis of their own: each stage counts its own steps."""
        self.run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    def log(self, values: Mapping[str, float], *, stage: str, step: int) -> None:
        """Log points of curves."""
        self.run.log({**values, f"{stage}/step": step})

    def log_failure(self, failure: str) -> None:
        """Put the failure into the summary."""
        self.run.summary["failure"] = failure

    def log_results(self, results: FinalResults) -> None:
        """Log the table, the metrics as the summary, and the report as an artifact."""
        import wandb

        columns = list(results.columns)
        data = [list(row.values()) for row in results.table]
        self.run.log({"table": wandb.Table(columns=columns, data=data)})
        self.run.summary.update(results.metrics)
        if results.report is not None:
            artifact = wandb.Artifact(f"report-{self.run.id}", type="report")
            artifact.add_file(str(results.report))
            self.run.log_artifact(artifact)

    def end(self, outcome: RunOutcome) -> None:
        """Upload what is left."""
        self.run.finish(exit_code=0 if outcome == "finished" else 1)
