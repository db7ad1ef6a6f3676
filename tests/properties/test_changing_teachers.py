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


def test_a_teacher_that_one_stage_trains_and_a_later_one_changes_is_whole(launch, session, toys, same):
    first = "{distiller: {supervised: {model: teacher}}, training: {steps: 2, batch_size: 2}}"
    adaptor = "adaptors.teacher={logits: output.logits, hidden: output.hidden, labels: batch.label}"
    two = (*SAME[:2], f"stages={{first: {first}, distil: {MEAN}}}", adaptor)
    whole = launch(*two, plugins=(Plugin(),), folder="whole")
    with pytest.raises(Interrupted):
        session(*two, plugins=(Plugin(), toys.StopAt(3))).run()
    ran = launch(*two, plugins=(Plugin(),))
    assert same.bits(ran.weights, whole.weights)
    assert session(*two, plugins=(Plugin(),)).run().already_finished
    for name in ("stages/distil.json", "table.json"):  # killed between the last model and the record of the stage
        (ran.folder / name).unlink()
    assert same.bits(launch(*two, plugins=(Plugin(),)).weights, whole.weights)


class TwoMeans(Distiller):
    """Two teachers follow the student, each at its own pace."""

    name = "two_means"
    declared: list[str] = ["slow", "fast"]
    """The teachers that are declared as changing."""

    def needs(self) -> Needs:
        reads = {model: frozenset({"logits"}) for model in ("student", "slow", "fast")}
        task = TaskNeeds(teachers=("slow", "fast"), reads=reads)
        return Needs(student="student", tasks=(task,), changing=tuple(self.declared))

    def build(self, context: ObjectiveContext) -> Any:
        from kdspec import Objective

        class Means(Objective):
            changes_modules = True

            def on_step_begin(self, progress: float, models: Any) -> None:
                self.models = models

            def forward(self, step: Step) -> dict[str, Term]:
                (student,) = step.student.logits
                teachers = [step.teachers[name].logits[0].dense() for name in ("slow", "fast")]
                return {"soft_labels": Term(sum((student.dense() - each - 1).square().mean() for each in teachers))}

            def on_step_end(self, progress: float) -> None:
                with torch.no_grad():
                    for name, share in (("slow", 0.1), ("fast", 0.4)):
                        pairs = zip(self.models[name].parameters(), self.models["student"].parameters(), strict=True)
                        for mean, now in pairs:
                            mean.lerp_(now, share)

        return Means()


class TwoPlugin:
    @hookimpl
    def kdspec_components(self) -> list[type[Component]]:
        return [TwoMeans]


TWO = (
    "models={slow: {toy: {dropout: 0.2}}, fast: {toy: {dropout: 0.2}}, student: {toy: {dropout: 0.2}}}",
    "adaptors={slow: {logits: output.logits}, fast: {logits: output.logits}, student: {logits: output.logits}}",
    "stages={distil: {distiller: two_means, training: {steps: 6, batch_size: 2, log_every: 1}}}",
)


def test_two_changing_teachers_are_both_saved_and_restored(session, launch, toys, same):
    whole = launch(*TWO, plugins=(TwoPlugin(),), folder="whole")
    with pytest.raises(Interrupted):
        session(*TWO, plugins=(TwoPlugin(), toys.StopAt(3))).run()
    ran = launch(*TWO, plugins=(TwoPlugin(),))
    assert same.bits(ran.weights, whole.weights)
    found = {}
    for name in ("slow", "fast"):
        of = [load_file(each.folder / "models" / name / "model.safetensors") for each in (ran, whole)]
        assert same.bits(*of), name
        found[name] = of[0]
    assert not same.close(found["slow"], found["fast"], 1e-6)


def test_one_of_two_changing_teachers_that_is_undeclared_stops_the_run(session):
    with pytest.raises(FindingError) as caught:
        session(*TWO, "stages.distil.distiller={two_means: {declared: [slow]}}", plugins=(TwoPlugin(),)).run()
    (finding,) = caught.value.findings
    assert finding.code == "KD520"
    assert "weights of teacher `fast` have changed" in finding.message


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
