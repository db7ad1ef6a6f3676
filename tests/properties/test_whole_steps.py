"""A loss over a whole optimizer step does not depend on how the step is cut: into micro-batches, lanes or processes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kdspec import FeatureLoss
from kdspec.api.working.step import View
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.forward.guarded_task import built
from kdspec.engine.forward.models import Models
from kdspec.engine.processes.backend import SingleProcess
from kdspec.engine.run.build_stage import StageSetup, build_stage
from kdspec.engine.run.run_folder import RunFolder
from kdspec.engine.step.normalization import Counted, Shares
from kdspec.engine.step.training_loop import DrawnStep
from kdspec.engine.step.whole_step import check_whole_steps, joined, over_whole_step
from kdspec.events import StepDone

GENERAL = "stages.distil.distiller.general"
TRAINING = "stages.distil.training"
ALONE = (
    f"{GENERAL}.soft_labels.weight=0",
    f"{GENERAL}.hard_labels.weight=0",
    f"{GENERAL}.matches=[{{feature: hidden, loss: alike, layers: {{3: 2}}}}]",
)
ALIKE = "{feature: hidden, loss: alike, layers: {3: 2}, weight: 3}"
LEARNT = f"{GENERAL}.matches=[{{feature: hidden, loss: learnt_alike, layers: {{3: 2}}}}]"
"""With parameters of its own, behind a projection."""
AMONG_OTHERS = (f"{GENERAL}.matches=[{ALIKE}, {{feature: hidden, loss: hidden_mse, layers: {{0: 0}}}}]",)
ROWS = "tasks.rows.tensors.data.ragged={train: 24, validation: 3, test: 3, gaps: 4}"
STILL = f"{TRAINING}.optimizer={{sgd: {{lr: 0.1}}}}"


def cut(batch_size, accumulate, *more):
    return (ROWS, STILL, f"{TRAINING}.batch_size={batch_size}", f"{TRAINING}.accumulate={accumulate}", *more)


@pytest.fixture
def begun(session):
    """A stage ready to run."""

    def made(*sets):
        of = session(*sets)
        task = built(of.plan, "rows")
        setup = StageSetup(
            plan=of.plan, stage=of.plan.stages[0], registry=of.registry, models=Models(of.plan, {"rows": task.head}, {}),
            tasks={"rows": task}, folder=RunFolder(of.plan.source.folder / "begun"), backend=SingleProcess("cpu"),
        )  # fmt: skip
        return build_stage(setup, 1, warn=print).loop

    return made


@pytest.mark.parametrize("terms", [ALONE, AMONG_OTHERS, (LEARNT,)], ids=["alone", "among others", "learnt"])
@pytest.mark.parametrize("cuts", [(4, 2), (2, 4), (1, 8)])
def test_splitting_into_micro_batches_changes_nothing(terms, cuts, launch, same):
    whole = launch(*cut(8, 1, *terms), folder="whole")
    parts = launch(*cut(*cuts, *terms), folder="parts")
    assert same.close(whole.checkpoint(6), parts.checkpoint(6), 1e-10)
    for one, other in zip(whole.of(StepDone), parts.of(StepDone), strict=True):
        assert other.terms == pytest.approx(one.terms, rel=1e-9)
        assert other.loss == pytest.approx(one.loss, rel=1e-9)


@pytest.mark.parametrize("terms", [AMONG_OTHERS, (LEARNT,)], ids=["among others", "learnt"])
def test_lanes_change_nothing(terms, launch, same):
    one = launch(*cut(2, 4, *terms), folder="one")
    side_by_side = launch(*cut(2, 4, *terms, f"{TRAINING}.lanes=2"), folder="lanes")
    assert same.close(one.checkpoint(6), side_by_side.checkpoint(6), 1e-10)


@pytest.mark.parametrize(
    ("terms", "learnt"),
    [((), 0), ((f"{GENERAL}.matches.0.projection=linear",), 2), ((LEARNT,), 3)],
    ids=["a loss", "behind a projection", "with parameters, behind a projection"],
)
@pytest.mark.parametrize("single", [True, False])
def test_with_dropout_the_gradient_is_that_of_one_graph_over_the_step(single, terms, learnt, begun):
    """The reference keeps the graphs of all micro-batches, each with its own random numbers."""
    loop = begun(*cut(2, 4, *ALONE, *terms, f"models.student.toy={{dropout: 0.3, single: {str(single).lower()}}}",
                      f"models.teacher.toy={{width: 6, depth: 3, single: {str(single).lower()}}}"))  # fmt: skip
    loop.trainable.train()
    drawn = loop._draw(0)
    weights = [p for p in loop.trainable.parameters() if p.requires_grad]
    teacher_features = [loop.teacher_features(0, micro, each) for micro, each in enumerate(drawn)]
    ats = [loop.at(0, micro, each, None, teacher_features[micro]) for micro, each in enumerate(drawn)]
    views = [next(iter(loop.trainable.objective.views(at).values())) for at in ats]
    together = joined(views)
    length = together.mask.shape[1]
    student = torch.cat([
        torch.nn.functional.pad(view.student[0], (0, 0, 0, length - view.student[0].shape[1])) for view in views
    ])  # fmt: skip
    match = loop.trainable.objective.step_matches["0"]
    value = match.loss(student, together.teacher[0], mask=together.mask)
    expected = torch.autograd.grad(value, weights, allow_unused=True)
    shares = Shares([Counted(each.task, each.units) for each in drawn], "step")
    known, whole = over_whole_step(loop, 0, drawn, shares.of_tasks)
    loop._one_by_one(DrawnStep(number=0, drawn=drawn, shares=shares, teacher_features=known, whole=whole))
    tolerance = 1e-6 if single else 1e-12
    (term,) = whole.values()
    torch.testing.assert_close(term.value, value.detach(), rtol=tolerance, atol=tolerance)
    objective = {name for name, p in loop.trainable.objective.named_parameters() if p.grad is not None and p.grad.any()}
    assert len(objective) == learnt
    for weight, gradient in zip(weights, expected, strict=True):
        if gradient is not None:
            torch.testing.assert_close(weight.grad, gradient, rtol=tolerance, atol=tolerance)
    assert any(gradient is not None and gradient.any() for gradient in expected)


@pytest.mark.parametrize("setting", ["precision: fp16", "compile: true"])
def test_what_runs_a_student_otherwise_the_second_time_is_refused_for_objectives_of_plugins_too(setting):
    loop = SimpleNamespace(
        trainable=SimpleNamespace(objective=SimpleNamespace(compares_steps=True)),
        stage=SimpleNamespace(training=SimpleNamespace(compile=setting == "compile: true")),
        backend=SimpleNamespace(scales=setting == "precision: fp16"),
        place=lambda _term: ("stages", "distil", "distiller"),
    )
    with pytest.raises(FindingError, match=f"scope `step` cannot be computed with `{setting}`") as caught:
        check_whole_steps(loop)
    assert caught.value.findings[0].code == "KD516"


class Hidden(FeatureLoss):
    """A loss over a whole step whose parameter is where nobody looks."""

    name = "hidden_factor"
    scope = "step"
    feature = "hidden"
    same_width = False

    def build(self, context):
        factor = nn.Parameter(torch.ones((), dtype=torch.float64))
        return lambda student, teacher, *, mask: (factor * student).square().mean()


def test_a_parameter_that_would_never_be_trained_is_an_error(launch):
    with pytest.raises(FindingError, match="would never be trained") as caught:
        launch(*cut(2, 4, *ALONE, f"{GENERAL}.matches.0.loss=hidden_factor"), plugins=[Hidden])
    assert caught.value.findings[0].code == "KD510"


def test_rows_of_several_lengths_are_padded_together():
    short, long = torch.ones(2, 3, 4), torch.ones(1, 5, 4)
    made = joined([View((short,), (short,), torch.ones(2, 3)), View((long,), (long,), torch.ones(1, 5))])
    assert made.student[0].shape == made.teacher[0].shape == (3, 5, 4)
    assert made.mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    with pytest.raises(Fault, match="rows of a step differ in length"):
        joined([View((short,), (short,)), View((long,), (long,))])
    assert joined([View((short[:, 0],)), View((long[:, 0],))]).student[0].shape == (3, 4)
