from __future__ import annotations

import pytest

from kdspec.engine.forward.guarded_task import built
from kdspec.engine.forward.models import Models
from kdspec.engine.processes.backend import SingleProcess
from kdspec.engine.run.build_stage import StageSetup, build_stage
from kdspec.engine.run.run_folder import RunFolder

TRAINING = "stages.distil.training"


@pytest.fixture
def build(session):
    def made(*sets):
        of = session(*sets)
        task = built(of.plan, "rows")
        setup = StageSetup(
            plan=of.plan, stage=of.plan.stages[0], registry=of.registry, models=Models(of.plan, {"rows": task.head}, {}),
            tasks={"rows": task}, folder=RunFolder(of.folder), backend=SingleProcess("cpu"),
        )  # fmt: skip
        return build_stage(setup, 1, warn=print)

    return made


def test_building_a_stage_writes_nothing_and_returns_its_notes(build, session):
    made = build(f"{TRAINING}.lanes=2")
    assert any("lanes: 2" in note.text or "in parallel" in note.text for note in made.notes)
    assert not session().folder.exists()
    if made.loop.lanes is not None:
        made.loop.lanes.close()


def test_a_stage_built_twice_starts_from_the_same_weights(build, same):
    one, other = (dict(build().loop.trainable.named_parameters()) for _ in range(2))
    assert same.bits(one, other)


def test_a_whole_copy_of_the_student_is_kept_for_sharded_backends_only(build):
    assert build().whole_student is None
