"""Teachers that a strategy changes are state of the stage: a stopped run ends as an uninterrupted one, or it is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kdspec import Component, Distiller, Needs, ObjectiveContext, Step, TaskNeeds, Term, hookimpl
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.stage_run import Interrupted
from kdspec.events import CacheState

MEAN = "{distiller: {mean_teacher: {teacher: teacher, student: student}}, training: {steps: 6, batch_size: 2, teacher_cache: auto, log_every: 1}}"
SAME = ("models.teacher={toy: {dropout: 0.2}}", "models.student={toy: {dropout: 0.2}}", f"stages={{distil: {MEAN}}}")


class MeanTeacher(Distiller):
    """The teacher is the mean of the student's past weights."""

    name = "mean_teacher"
    teacher: str
    """The model that follows."""
    student: str
    """The model that is trained."""
    declared: bool = True
    """Whether the teacher is declared as changing."""

    def needs(self) -> Needs:
        reads = {model: frozenset({"logits"}) for model in (self.student, self.teacher)}
        changing = (self.teacher,) if self.declared else ()
        task = TaskNeeds(teachers=(self.teacher,), reads=reads)
        return Needs(student=self.student, tasks=(task,), changing=changing)

    def build(self, context: ObjectiveContext) -> Any:
        from kdspec import Objective

        names = self.teacher, self.student

        class Mean(Objective):
            changes_modules = True

            def on_step_begin(self, progress: float, models: Any) -> None:
                self.pair = [models[name] for name in names]

            def forward(self, step: Step) -> dict[str, Term]:
                (student,), (teacher,) = step.student.logits, step.teachers[names[0]].logits
                return {"soft_labels": Term((student.dense() - teacher.dense() - 1).square().mean())}

            def on_step_end(self, progress: float) -> None:
                teacher, student = self.pair
                with torch.no_grad():
                    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                        slow.lerp_(fast, 0.3)

        return Mean()


class Plugin:
    @hookimpl
    def kdspec_components(self) -> list[type[Component]]:
        return [MeanTeacher]


@pytest.mark.parametrize("step", [1, 4])
def test_a_stopped_run_with_a_mean_teacher_ends_as_an_uninterrupted_one(session, launch, toys, same, step):
    whole = launch(*SAME, plugins=(Plugin(),), folder="whole")
    with pytest.raises(Interrupted):
        session(*SAME, plugins=(Plugin(), toys.StopAt(step))).run()
    ran = launch(*SAME, plugins=(Plugin(),))
    assert same.bits(ran.weights, whole.weights)
    of_teacher = [load_file(each.folder / "models" / "teacher" / "model.safetensors") for each in (ran, whole)]
    assert same.bits(*of_teacher)


def test_a_changed_teacher_teaches_the_next_stage_as_it_is_now(launch, session, toys, same):
    later = "{distiller: {general: {teacher: teacher, student: other}}, training: {steps: 4, batch_size: 2}}"
    two = (*SAME, "models.other={toy: {width: 3}}", f"stages.later={later}")
    adaptors = (
        "adaptors.other={logits: output.logits, hidden: output.hidden, inputs_mask: batch.mask, labels: batch.label}"
    )
    whole = launch(*two, adaptors, plugins=(Plugin(),), folder="whole")
    with pytest.raises(Interrupted):
        session(*two, adaptors, plugins=(Plugin(), toys.StopAt(1, stage="later"))).run()
    assert same.bits(launch(*two, adaptors, plugins=(Plugin(),)).weights, whole.weights)


def test_a_teacher_that_changes_undeclared_is_refused_before_its_first_checkpoint(session):
    sets = (*SAME, "stages.distil.distiller.mean_teacher.declared=false")
    with pytest.raises(FindingError) as caught:
        session(*sets, plugins=(Plugin(),)).run()
    (finding,) = caught.value.findings
    assert finding.code == "KD520"
    assert "changing=('teacher',)" in finding.help
    assert finding.at[:2] == ("stages", "distil")


def test_its_outputs_are_not_cached_and_the_plan_says_that_it_changes(launch):
    ran = launch(*SAME, plugins=(Plugin(),))
    assert not any(state.used for state in ran.of(CacheState))
    plan = json.loads((ran.folder / "plan.json").read_text())
    assert next(model for model in plan["models"] if model["name"] == "teacher")["stages"] == {"distil": "changed"}


def test_only_teachers_can_change():
    with pytest.raises(AssertionError, match="is a teacher"):
        Needs(student="student", changing=("other",))
