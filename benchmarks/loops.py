"""The engine's loop of a spec's first stage, to be stepped by a benchmark beside other loops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdspec.check import check
from kdspec.compose import compose
from kdspec.engine.backend import SingleProcess
from kdspec.engine.guarded import guarded
from kdspec.engine.models import Models
from kdspec.engine.run_folder import RunFolder
from kdspec.engine.signals import StopSignal
from kdspec.engine.stage import StageRun
from kdspec.engine.training import Loop
from kdspec.plan import make
from kdspec.testing import registry


def loop(text: str, folder: Path, sets: Sequence[str] = ()) -> Loop:
    """What `kdspec run` would step through; files that the spec names are found from `folder`."""
    known = registry()
    spec = check(compose(text, "benchmark", folder, sets), known).spec
    assert spec is not None, "the spec is fine"
    plan, found = make(spec, known)
    assert plan is not None, found
    stage = plan.stages[0]
    tasks = {name: guarded(spec, name, spec.tasks[name].build(plan.context(name))) for name in stage.tasks}
    run = StageRun(
        plan, stage, registry=known, models=Models(plan, {name: task.head for name, task in tasks.items()}, {}),
        tasks=tasks, folder=RunFolder(folder), backend=SingleProcess(precision=stage.training.precision),
        emit=lambda _: None, stop=StopSignal(),
    )  # fmt: skip
    return run.loop()
