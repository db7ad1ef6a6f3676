"""The engine's loop of a spec's first stage, to be stepped by a benchmark beside other loops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdspec.engine.forward.guarded_task import built
from kdspec.engine.forward.models import Models
from kdspec.engine.processes.backend import SingleProcess
from kdspec.engine.run.build_stage import StageSetup, build_stage
from kdspec.engine.run.run_folder import RunFolder
from kdspec.engine.step.training_loop import TrainingLoop
from kdspec.planning.prepare import prepare
from kdspec.source.extends import compose
from kdspec.testing import registry


def loop(text: str, folder: Path, sets: Sequence[str] = ()) -> TrainingLoop:
    """What `kdspec run` would step through; files that the spec names are found from `folder`."""
    known = registry()
    made = prepare(compose(text, "benchmark", folder, sets), known)
    plan = made.plan
    assert plan is not None, made.errors
    stage = plan.stages[0]
    tasks = {name: built(plan, name) for name in stage.tasks}
    setup = StageSetup(
        plan=plan, stage=stage, registry=known, models=Models(plan, {name: task.head for name, task in tasks.items()}, {}),
        tasks=tasks, folder=RunFolder(folder), backend=SingleProcess(precision=stage.training.precision),
    )  # fmt: skip
    return build_stage(setup, processes=1, warn=lambda _: None).loop
