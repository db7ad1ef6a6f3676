"""The loop: what stops it, what it clips, what it trains, and what components may get wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from kdspec import (
    Batch,
    BuiltTask,
    Distiller,
    Evaluator,
    FeatureLoss,
    LogitLoss,
    LrSchedule,
    Mean,
    Metric,
    Needs,
    Objective,
    Optimizer,
    Projection,
    Task,
    TaskNeeds,
    Term,
)
from kdspec.diagnostics.finding import FindingError
from kdspec.events import StepDone
from kdspec.ops import unpad

GENERAL = "stages.distil.distiller.general"
TRAINING = "stages.distil.training"
ONE_TERM = (f"{GENERAL}.hard_labels.weight=0", f"{GENERAL}.matches=[]")


class Late(LogitLoss):
    """The squared difference, times something in the n-th call."""

    name = "late"
    at: int = 3
    """In which call, counted from 1."""
    factor: str = "nan"
    """A number as text."""

    def build(self, context: Any) -> Any:
        calls = iter(range(1, 10**6))

        def loss(student, teacher, *, temperature):
            value = (student - teacher.detach()).square().mean()
            return value * float(self.factor) if next(calls) == self.at else value

        return loss


class Rooted(FeatureLoss):
    """The square root of the difference, with an infinite gradient where the difference is 0."""

    name = "rooted"
    same_width = False

    def build(self, context: Any) -> Any:
        return lambda student, teacher, *, mask: (student.sum() * 0).sqrt() + 0 * teacher.sum()


class Detached(LogitLoss):
    """A loss without a gradient."""

    name = "detached"

    def build(self, context: Any) -> Any:
        return lambda student, teacher, *, temperature: (student.detach() - teacher).square().mean()


class Raising(LogitLoss):
    """Raises in a step, in the backward pass or while it is built."""

    name = "raising"
    when: str = "step"
    """`step`, `backward` or `build`."""

    def build(self, context: Any) -> Any:
        if self.when == "build":
            raise KeyError("weights.txt")

        class Broken(torch.autograd.Function):
            @staticmethod
            def forward(ctx, value):
                return value.clone()

            @staticmethod
            def backward(ctx, gradient):
                raise ValueError("no way back")

        def loss(student, teacher, *, temperature):
            if self.when == "step":
                raise ValueError("no way")
            return Broken.apply(student).sum()

        return loss


class Closure(LogitLoss):
    """A loss with a parameter hidden from torch."""

    name = "closure"

    def build(self, context: Any) -> Any:
        factor = nn.Parameter(torch.ones((), dtype=torch.float64))
        return lambda student, teacher, *, temperature: (factor * student - teacher.detach()).square().mean()


class Listed(LogitLoss):
    """A loss that keeps its parameters in a plain list."""

    name = "listed"

    def build(self, context: Any) -> Any:
        class Loss(nn.Module):
            def __init__(self):
                super().__init__()
                self.factors = [nn.Parameter(torch.ones((), dtype=torch.float64))]

            def forward(self, student, teacher, *, temperature):
                return (self.factors[0] * student - teacher.detach()).square().mean()

        return Loss()


def refused(call):
    with pytest.raises(FindingError) as caught:
        call()
    return caught.value.findings


def quoted(finding, session, *sets, plugins=()):
    """What is written where a finding points."""
    return session(*sets, plugins=plugins).plan.source.at(finding.at)


@pytest.mark.parametrize("factor", ["nan", "inf"])
def test_a_loss_that_is_not_finite_is_named_and_the_weights_are_unharmed(factor, launch, session, same):
    """A plugin's loss in the third of four micro-batches of the second step."""
    options = {"plugins": [Late]}
    loss = (f"{GENERAL}.soft_labels={{loss: {{late: {{at: 7, factor: '{factor}'}}}}}}", f"{TRAINING}.batch_size=1")
    every = (*loss, f"{TRAINING}.accumulate=4", f"{TRAINING}.checkpoint={{every_steps: 1}}")
    (found,) = refused(lambda: launch(*every, **options))
    assert found.code == "KD501"
    assert found.message == "the term `soft_labels` is not finite in step 2 of stage `distil`"
    assert next(iter(quoted(found, session, *every, **options)["loss"])) == "late"
    assert "`hard_labels`" in found.notes[0]
    assert "the weights are those before this step" in found.notes[-1]
    made = session(*every, **options)
    assert [p.name for p in (made.folder / "checkpoints" / "distil").iterdir()] == ["step-00000001"]


def test_a_gradient_that_is_not_finite_names_its_term(launch, session):
    matches = f"{GENERAL}.matches=[{{feature: hidden, loss: pkd, layers: {{3: 2}}}}, {{feature: hidden, loss: rooted, layers: {{2: 1}}}}]"
    (found,) = refused(lambda: launch(matches, plugins=[Rooted]))
    assert found.code == "KD501"
    assert found.message == "the gradient of the term `hidden.rooted.2-1` is not finite in step 1 of stage `distil`"
    assert quoted(found, session, matches, plugins=[Rooted])["loss"] == "rooted"


@pytest.mark.parametrize("scope", ["all", "student"])
def test_a_projections_gradient_is_looked_at_though_it_is_not_clipped(scope, launch):
    class Infinite(Projection):
        """A projection that is constant, with an infinite gradient."""

        name = "infinite"

        def build(self, context):
            class Module(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.root = nn.Parameter(torch.zeros(()))

                def forward(self, states):
                    return torch.zeros(*states.shape[:-1], 6, dtype=states.dtype) + self.root.sqrt() + 0 * states.sum()

            return Module()

    matches = f"{GENERAL}.matches=[{{feature: hidden, loss: hidden_mse, layers: {{3: 2}}, projection: infinite}}]"
    (found,) = refused(
        lambda: launch(
            matches,
            f"{TRAINING}.max_grad_norm.scope={scope}",
            f"{TRAINING}.max_grad_norm.value=1.0",
            plugins=[Infinite],
        )
    )
    assert found.message.startswith("the gradient of the term `hidden.hidden_mse.3-2` is not finite in step 1")


def test_a_loss_without_a_gradient_is_an_error(launch):
    (found,) = refused(lambda: launch(f"{GENERAL}.soft_labels={{loss: detached}}", *ONE_TERM, plugins=[Detached]))
    assert found.code == "KD306"


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("step", "raised ValueError: no way"),
        ("backward", "raised ValueError: no way back"),
        ("build", "raised KeyError"),
    ],
)
def test_an_exception_of_a_loss_is_reported_at_its_place(when, message, launch, session):
    loss = f"{GENERAL}.soft_labels={{loss: {{raising: {{when: {when}}}}}}}"
    (found,) = refused(lambda: launch(loss, plugins=[Raising]))
    assert found.code == "KD506"
    assert message in found.message
    assert found.at is not None


@pytest.mark.parametrize("component", [Closure, Listed])
def test_a_parameter_that_would_never_be_trained_is_an_error(component, launch):
    (found,) = refused(lambda: launch(f"{GENERAL}.soft_labels={{loss: {component.name}}}", plugins=[component]))
    assert found.code == "KD510"
    assert "would never be trained" in found.message


def test_a_losss_parameters_are_trained_clipped_saved_and_resumed(launch, session, toys, same):
    from kdspec.engine.run.stage_run import Interrupted

    loss = f"{GENERAL}.soft_labels={{loss: scaled}}"
    whole = launch(loss, folder="whole")
    factor = whole.checkpoint(6)["objective.soft_loss.factor"]
    assert factor != 1
    assert whole.of(StepDone)[0].lr.keys() == {"student", "projection", "objective"}
    with pytest.raises(Interrupted):
        session(loss, plugins=[toys.StopAt(3)]).run()
    ran = launch(loss)
    assert same.bits(ran.checkpoint(6), whole.checkpoint(6))
    assert not any("factor" in name for name in ran.weights)


@pytest.mark.parametrize("scope", ["all", "student"])
def test_clipping_is_by_the_norm_of_all_or_of_the_student(scope, launch):
    """With plain descent the first change is the clipped gradient itself."""
    changes = (
        f"{TRAINING}={{steps: 1, batch_size: 11, optimizer: {{sgd: {{lr: 1.0}}}}, lr_schedule: constant, evaluate: null}}",
    )
    start = launch(*changes, f"{TRAINING}.optimizer.sgd.lr=1.0e-300", f"{TRAINING}.max_grad_norm=null", folder="start")
    free = launch(*changes, f"{TRAINING}.max_grad_norm=null", folder="free")
    limit = (f"{TRAINING}.max_grad_norm.value=0.01", f"{TRAINING}.max_grad_norm.scope={scope}")
    clipped = launch(*changes, *limit, folder="clipped")
    before, after, wild = start.checkpoint(1), clipped.checkpoint(1), free.checkpoint(1)

    def norm(weights, part):
        squares = [(weights[n] - before[n]).square().sum() for n in before if n.startswith(part)]
        return math.sqrt(sum(squares))

    assert norm(after, "student" if scope == "student" else "") == pytest.approx(0.01, rel=1e-4)
    assert (norm(after, "objective") == pytest.approx(norm(wild, "objective"))) == (scope == "student")
    (event,) = clipped.of(StepDone)
    assert event.grad_norm == pytest.approx(norm(wild, "student" if scope == "student" else ""), rel=1e-6)


def test_a_projections_options_make_a_group_of_its_own(launch):
    matches = (
        f"{GENERAL}.matches=[{{feature: hidden, loss: hidden_mse, layers: {{3: 2}}, projection: {{linear: {{lr: 0.5}}}}}}, "
        "{feature: hidden, loss: cos, layers: {1: 1}}]"
    )
    ran = launch(matches, f"{TRAINING}.lr_schedule=constant")
    assert ran.of(StepDone)[0].lr == {"student": 0.01, "projection.hidden.hidden_mse.3-2": 0.5, "projection": 0.01}


class Fixed(Task):
    """A task with one method that fails."""

    name = "fixed"
    method: str
    """Which of its methods fails."""
    data: Any = None
    """Nothing."""

    def adaptor(self):
        return {"logits": "output.logits", "labels": "batch.label"}

    def build(self, context):
        method = self.method

        class Rows(BuiltTask):
            def rows(self, split):
                return 4 if split in ("train", "validation") else 0

            def encode(self, split, readers):
                return [[{"row": row} for row in range(4)]]

            def collate(self, rows, reader):
                ones = torch.ones(len(rows), 2, dtype=torch.long)
                return Batch(inputs={"": {"ids": ones, "mask": ones}}, targets={"label": ones[:, 0]})

            def hard_loss(self, features, batch):
                logits, labels = features.logits[0].dense(), batch.targets["label"]
                total = nn.functional.cross_entropy(logits, labels, reduction="sum")
                return {"labels": Mean(total, float(len(labels)))}

            def evaluator(self, split):
                return evaluator

        class Half(Evaluator):
            primary = Metric("accuracy")

            def add(self, features, batch):
                return {"rows": torch.tensor(len(batch.rows))}

            def merge(self, states):
                return {"accuracy": 0.5}

        def fail(*args, **options):
            raise ZeroDivisionError("in the task")

        rows, evaluator = Rows(), Half()
        if method:
            setattr(evaluator if method in ("add", "merge") else rows, method, fail)
        return rows


@pytest.mark.parametrize(
    "method", ["rows", "encode", "draw", "collate", "units", "hard_loss", "evaluator", "add", "merge"]
)
def test_an_exception_of_a_task_is_reported_at_its_place(method, launch, session):
    task = f"tasks={{rows: {{fixed: {{method: {method}}}}}}}"
    changes = (task, "adaptors={}", f"{GENERAL}.matches=[]", f"{TRAINING}.evaluate={{}}")
    (found,) = refused(lambda: launch(*changes, plugins=[Fixed]))
    assert found.code == "KD506"
    assert found.message == "task `rows` raised ZeroDivisionError: in the task"
    assert "method" in quoted(found, session, *changes, plugins=[Fixed])


class Bad(Optimizer):
    """An optimizer that raises in a step."""

    name = "bad"

    def build(self, context):
        class Sgd(torch.optim.SGD):
            def step(self, closure=None):
                raise ArithmeticError("too steep")

        return lambda groups: Sgd(groups, lr=1.0)


class BadSchedule(LrSchedule):
    """A schedule that raises."""

    name = "bad_schedule"

    def build(self, context):
        return lambda step: 1 / step


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimizer=bad", "optimizer `bad` raised ArithmeticError: too steep"),
        (
            "lr_schedule=bad_schedule",
            "learning-rate schedule `bad_schedule` raised ZeroDivisionError: division by zero",
        ),
    ],
)
def test_an_exception_of_an_optimizer_or_schedule_is_reported_at_its_place(change, message, launch):
    (found,) = refused(lambda: launch(f"{TRAINING}.{change}", plugins=[Bad, BadSchedule]))
    assert (found.code, found.message) == ("KD506", message)


MOMENTS: list[object] = []
"""What the objective of `own` was called with."""


class Own(Distiller):
    """A strategy that uses every moment that it may have, and batches of its own."""

    name = "own"
    changes: ClassVar[bool] = True
    student: str
    """Who learns."""

    def needs(self):
        return Needs(student=self.student, tasks=(TaskNeeds(reads={self.student: frozenset({"logits"})}),))

    def build(self, context):
        def alike(batch):
            inputs = batch.inputs[""]
            return replace(batch, inputs={"": {**inputs, "ids": inputs["ids"] * 0}})

        class OfEverything(Objective):
            makes_batches = True

            def on_step_begin(self, progress, models):
                MOMENTS.append((progress, sorted(models)))
                for model in models.values():
                    model.eval()

            def make_batches(self, batches, models):
                models["student"].eval()
                return {name: alike(batch) for name, batch in batches.items()}

            def on_step_end(self, progress):
                MOMENTS.append(progress)

            def forward(self, step):
                assert self.training
                logits = step.student.logits[0].dense()
                return {
                    "spread": Term((logits - logits.mean(0)).abs().sum()),
                    "size": Term(logits.square().mean(), 0.1),
                }

        MOMENTS.clear()
        made = OfEverything()
        made.changes_modules = self.changes
        return made


def test_a_strategy_has_its_moments(launch):
    """With its own batches all rows have the same tokens, so that only their masks differ, which a mean does not see."""
    changes = (
        "stages.distil.distiller={own: {student: student}}",
        "models={student: {toy: {}}}",
        "adaptors={student: {logits: output.logits, inputs_mask: batch.mask}}",
    )
    ran = launch(*changes, plugins=[Own])
    assert [event.terms["spread"] for event in ran.of(StepDone)] == pytest.approx([0] * 6, abs=1e-7)
    assert ran.of(StepDone)[0].weights == {"spread": 1.0, "size": 0.1}
    begun, ended = MOMENTS[::2], MOMENTS[1::2]
    assert begun == [(step / 6, ["student"]) for step in range(6)]
    assert ended == [(step + 1) / 6 for step in range(6)]


def test_modules_are_handed_to_a_strategy_that_declares_that_it_changes_them(launch):
    class Modest(Own):
        name = "own"
        changes: ClassVar[bool] = False

    changes = (
        "stages.distil.distiller={own: {student: student}}",
        "models={student: {toy: {}}}",
        "adaptors={student: {logits: output.logits, inputs_mask: batch.mask}}",
    )
    launch(*changes, plugins=[Modest])
    assert MOMENTS[0] == (0.0, [])


class Silent(Distiller):
    """A strategy that uses a teacher's module and none of its outputs."""

    name = "silent"

    def needs(self):
        return Needs(
            student="student", tasks=(TaskNeeds(teachers=("teacher",), reads={"student": frozenset({"logits"})}),)
        )

    def build(self, context):
        def refuse(module, inputs):
            raise AssertionError("the teacher's outputs are not read")

        class WithoutTeachers(Objective):
            changes_modules = True

            def on_step_begin(self, progress, models):
                models["teacher"].register_forward_pre_hook(refuse)

            def forward(self, step):
                assert not step.teachers
                return {"size": Term(step.student.logits[0].dense().square().mean())}

        return WithoutTeachers()


def test_a_teacher_without_features_is_not_run(launch):
    ran = launch("stages.distil.distiller=silent", plugins=[Silent])
    assert len(ran.of(StepDone)) == 6


class Bare(Silent):
    """A strategy with a function as its objective."""

    name = "bare"

    def build(self, context):
        return lambda step: {"size": Term(step.student["logits"].dense().square().mean())}


def test_an_objective_of_another_class_is_refused(launch):
    (found,) = refused(lambda: launch("stages.distil.distiller=bare", plugins=[Bare]))
    assert found.code == "KD506"
    assert "`build` returned a function, not a `kdspec.Objective`" in found.message


class Hiding(Silent):
    """A strategy that has a part with terms over whole steps, and does not hand these on."""

    name = "hiding"

    def build(self, context):
        class Inner(Objective):
            compares_steps = True

            def forward(self, step):
                return {}

        class Outer(Objective):
            def __init__(self):
                super().__init__()
                self.inner = Inner()

            def forward(self, step):
                return self.inner(step)

        return Outer()


def test_terms_over_whole_steps_are_not_lost_in_a_part_of_an_objective(launch):
    (found,) = refused(lambda: launch("stages.distil.distiller=hiding", plugins=[Hiding]))
    assert found.code == "KD506"
    assert "a part has terms over whole steps" in found.message


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains_about_the_same(precision, launch):
    single = ("models.student.toy.single=true", "models.teacher.toy.single=true")
    exact = launch(*single, folder="exact")
    mixed = launch(*single, f"{TRAINING}.precision={precision}", folder="mixed")
    assert mixed.weights["out.weight"].dtype == torch.float32
    for one, other in zip(exact.of(StepDone), mixed.of(StepDone), strict=True):
        assert other.loss == pytest.approx(one.loss, rel=0.05)


def test_a_gradient_that_overflows_whatever_the_scale_stops_the_run(launch):
    """A single overflow is the scaler's business: it leaves the step out and halves its scale."""
    changes = (f"{TRAINING}.precision=fp16", "models.student.toy.single=true", "models.teacher.toy.single=true")
    once = launch(
        *changes, *ONE_TERM, f"{GENERAL}.soft_labels={{loss: {{late: {{at: 1, factor: '1e4'}}}}}}",
        f"{TRAINING}.accumulate=1", plugins=[Late], folder="once",
    )  # fmt: skip
    norms = [event.grad_norm for event in once.of(StepDone)]
    assert norms[0] is None
    assert norms[-1] is not None
    (found,) = refused(
        lambda: launch(
            *changes, f"{GENERAL}.matches=[{{feature: hidden, loss: rooted, layers: {{2: 1}}}}]",
            f"{TRAINING}.epochs=60", plugins=[Rooted],
        )
    )  # fmt: skip
    assert found.code == "KD501"
    assert "`hidden.rooted.2-1`" in found.message


def test_parameters_without_a_gradient_are_noted(launch):
    changes = (f"{GENERAL}.soft_labels={{weight: 0}}", f"{GENERAL}.hard_labels={{weight: 0}}")
    ran = launch(*changes, f"{GENERAL}.matches=[{{feature: hidden, loss: hidden_mse, layers: {{1: 1}}}}]")
    (note,) = [text for text in ran.notes if "no gradient" in text]
    assert "`layers.1.linear.weight` and 3 more of `student`" in note
    assert not [text for text in launch(folder="all").notes if "no gradient" in text]


def test_parameters_that_a_model_keeps_fixed_stay_fixed(launch, same):
    from kdspec import Model

    class Half(Model):
        """A model with frozen embeddings."""

        name = "half"

        def build(self, context):
            module = nn.ModuleDict({"emb": nn.Embedding(11, 4), "out": nn.Linear(4, 5)}).double()
            module["emb"].weight.requires_grad_(False)
            module.forward = lambda ids, mask: {"logits": module["out"](module["emb"](ids).mean(1))}
            return module

    changes = ("models.student={half: {}}", "adaptors.student={logits: output.logits}", *ONE_TERM)
    first = launch(*changes, f"{TRAINING}.optimizer.adamw.lr=1.0e-300", plugins=[Half], folder="first")
    second = launch(*changes, plugins=[Half], folder="second")
    assert torch.equal(first.weights["emb.weight"], second.weights["emb.weight"])
    assert not torch.equal(first.weights["out.weight"], second.weights["out.weight"])


def test_a_model_that_draws_its_weights_does_so_from_the_seed(launch, same):
    from kdspec import Model

    class MicroBatch(Model):
        """A model with weights from the global generator."""

        name = "drawn"

        def build(self, context):
            module = nn.ModuleDict({"emb": nn.Embedding(11, 4), "out": nn.Linear(4, 5)}).double()
            module.forward = lambda ids, mask: {"logits": module["out"](module["emb"](ids).mean(1))}
            return module

    changes = ("models.student={drawn: {}}", "adaptors.student={logits: output.logits}", *ONE_TERM)
    first = launch(*changes, plugins=[MicroBatch], folder="first")
    torch.rand(7)
    assert same.bits(first.weights, launch(*changes, plugins=[MicroBatch], folder="second").weights)
    assert not same.bits(first.weights, launch(*changes, "seed=9", plugins=[MicroBatch], folder="third").weights)


def test_losses_on_tokens_without_padding_are_the_same(launch, monkeypatch):
    """With a projection for some matches; the toys are so small that their tokens would not be packed."""
    matches = "[{feature: hidden, loss: hidden_mse, layers: {3: 2}}, {feature: hidden, loss: cos, layers: {3: 2}, "
    matches += "projection: tanh}, {feature: hidden, loss: mmd, layers: {0: 0, 3: 2}}, {feature: hidden, loss: pkd, layers: {1: 1}}]"
    padded = launch(f"{GENERAL}.matches={matches}", folder="padded").of(StepDone)
    packed_ = []
    monkeypatch.setattr(unpad, "SMALL", 0)
    of = unpad.Packing.of
    monkeypatch.setattr(unpad.Packing, "of", lambda self, layer: packed_.append(1) or of(self, layer))
    packed = launch(f"{GENERAL}.matches={matches}", folder="packed").of(StepDone)
    assert packed_
    for one, other in zip(padded, packed, strict=True):
        assert one.terms == pytest.approx(other.terms, rel=1e-5, abs=1e-7)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-5)
