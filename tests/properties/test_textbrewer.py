"""What TextBrewer does and we do too, and what it does by accident and we do not, as far as runs show it.

The losses themselves, and a whole trajectory, are held by `tests/ops/test_golden.py` and `tests/golden`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.model import ModelContext
from kdspec.api.spec.task_sampling import Sampling
from kdspec.api.working.step import Features, Step
from kdspec.builtins.strategies.one_teacher import General
from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.diagnostics.fault import Fault
from kdspec.diagnostics.finding import FindingError
from kdspec.engine.batches.sampler import DataOrder
from kdspec.engine.batches.task_sampler import TaskMixture
from kdspec.events import CheckpointSaved, Evaluated, StageFinished, StepDone
from kdspec.objectives.distillation import DistillationObjective
from kdspec.objectives.soft_labels import Soft
from kdspec.ops.divergence import cross_entropy_soft, kl
from kdspec.ops.mean import Mean
from kdspec.testing import registry

GENERAL = "stages.distil.distiller.general"
TRAINING = "stages.distil.training"
ONCE = (f"{TRAINING}.batch_size=11", f"{TRAINING}.accumulate=1", f"{TRAINING}.shuffle=false")
TWO = '["output.heads[0]", "output.heads[1]"]'
HEADS = (f"adaptors.teacher.logits={TWO}", f"adaptors.student.logits={TWO}")


def first(launch, *sets, **options):
    return launch(*sets, *ONCE, **options).of(StepDone)[0]


def objective(*, shift=False, loss=cross_entropy_soft):
    soft = Soft(
        teachers=("t",), loss=lambda s, t, *, temperature: loss(s, t, temperature), needs_labels=False,
        temperature=lambda student, teacher, progress: 2.0, weight=lambda progress: 1.0, shift=shift,
    )  # fmt: skip
    return DistillationObjective(tasks={}, soft=soft)


def value(terms):
    (term,) = terms.values()
    return term.loss.value if isinstance(term.loss, Mean) else term.loss


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_total_is_the_weighted_sum_of_soft_labels_matches_and_hard_labels(launch):
    weights = (f"{GENERAL}.soft_labels.weight=0.7", f"{GENERAL}.hard_labels.weight=0.2")
    step = first(launch, *weights)
    names = ["soft_labels", "hidden.hidden_mse.3-2", "hidden.mmd.0-0", "hard_labels"]
    assert list(step.terms) == names
    assert step.weights == dict(zip(names, [0.7, 1.0, 0.5, 0.2], strict=True))
    assert step.loss == pytest.approx(sum(step.terms[name] * step.weights[name] for name in names), abs=1e-12)


def test_soft_cross_entropy_has_no_t_squared_and_the_gradient_of_kl():
    teacher, temperature = draw(4, 5, seed=1), 3.0
    gradients = []
    for loss in (cross_entropy_soft, kl):
        student = draw(4, 5).requires_grad_()
        loss(student, teacher, temperature).value.backward()
        gradients.append(student.grad)
    assert torch.allclose(gradients[0] * temperature**2, gradients[1])


def test_a_temperature_for_each_row_is_taken(launch):
    same = first(launch, f"{GENERAL}.soft_labels.temperature={{flsw: {{base: 2, beta: 0}}}}", folder="same")
    plain = first(launch, folder="plain")
    other = first(launch, f"{GENERAL}.soft_labels.temperature={{flsw: {{base: 2, beta: 1}}}}", folder="other")
    assert same.loss == pytest.approx(plain.loss, abs=1e-12)
    assert abs(other.loss - plain.loss) > 1e-6


def test_a_temperature_for_each_token_is_taken():
    """Each token's own logits are divided by it, and its classes alike."""
    student, teacher = draw(2, 3, 5), draw(2, 3, 5, seed=1)
    rule = torch.tensor([1.0, 2.0, 3.0, 5.0], dtype=torch.float64)
    made = objective()
    made.soft = replace(made.soft, temperature=lambda *_: rule)
    at = Step(
        student=Features({"logits": student, "logits_mask": MASK}),
        teachers={"t": Features({"logits": teacher, "logits_mask": MASK})},
    )
    kept = MASK.bool()
    each = [
        float(cross_entropy_soft(one[None], other[None], float(own)).value)
        for one, other, own in zip(student[kept], teacher[kept], rule, strict=True)
    ]
    assert value(made(at)) == pytest.approx(sum(each) / 4, abs=1e-14)


def test_heads_are_summed_and_named(launch):
    """The total is their sum and not their mean, so two heads have twice the weight of one."""
    step = first(
        launch, *HEADS, f"{GENERAL}.hard_labels.weight=0", f"{GENERAL}.soft_labels.loss=ce", f"{GENERAL}.matches=[]"
    )
    assert step.terms.keys() == {"soft_labels.0", "soft_labels.1"}
    assert step.loss == pytest.approx(sum(step.terms.values()), abs=1e-12)


def test_differing_numbers_of_heads_are_an_error(launch):
    with pytest.raises(FindingError) as caught:
        launch(HEADS[0], f"{GENERAL}.hard_labels.weight=0")
    assert [d.code for d in caught.value.findings] == ["KD313"]


MASK = torch.tensor([[1, 1, 1], [1, 0, 0]])


def test_a_mask_of_logits_gives_the_mean_over_the_kept_tokens_of_the_batch():
    """Not a mean of sentences: three tokens of the first row and one of the second count alike."""
    student, teacher = draw(2, 3, 5), draw(2, 3, 5, seed=1)
    at = Step(
        student=Features({"logits": student, "logits_mask": MASK}),
        teachers={"t": Features({"logits": teacher, "logits_mask": MASK})},
    )
    kept = MASK.bool()
    assert value(objective()(at)) == pytest.approx(float(cross_entropy_soft(student[kept], teacher[kept], 2.0).value))


def test_a_mask_on_one_side_only_is_an_error():
    at = Step(
        student=Features({"logits": draw(2, 3, 5), "logits_mask": MASK}),
        teachers={"t": Features({"logits": draw(2, 3, 5)})},
    )
    with pytest.raises(Fault) as caught:
        objective()(at)
    assert caught.value.code == "KD507"


def test_one_mask_serves_many_heads():
    heads = {"logits": (draw(2, 3, 5), draw(2, 3, 4)), "logits_mask": MASK}
    terms = objective()(Step(student=Features(heads), teachers={"t": Features(heads)}))
    assert terms.keys() == {"soft_labels.0", "soft_labels.1"}


def test_the_probability_shift_respects_mask_and_missing_labels():
    """After it the teacher's choice is the label, wherever there is one; elsewhere nothing changes."""
    labels = torch.tensor([[1, -100, 0], [2, 3, 4]])
    teacher = draw(2, 3, 5)
    seen = []

    def loss(student, target, temperature):
        seen.append(target)
        return cross_entropy_soft(student, target, temperature)

    at = Step(
        student=Features({"logits": draw(2, 3, 5, seed=1), "logits_mask": MASK, "labels": labels}),
        teachers={"t": Features({"logits": teacher, "logits_mask": MASK})},
    )
    objective(shift=True, loss=loss)(at)
    (target,), kept = seen, MASK.bool()
    truth = labels[kept]
    assert torch.equal(target.argmax(-1)[truth >= 0], truth[truth >= 0])
    assert torch.equal(target[truth < 0], teacher[kept][truth < 0])


def test_hard_losses_are_the_students_own(launch):
    own = first(launch, "adaptors.student.losses=output.loss", folder="own")
    task = first(launch, folder="task")
    both = first(launch, *(f"adaptors.{model}.losses=output.loss" for model in ("student", "teacher")), folder="both")
    assert own.terms["hard_labels"] == pytest.approx(task.terms["hard_labels"], abs=1e-12)
    assert both.terms == own.terms


def test_several_hard_losses_are_the_sum_of_their_means():
    """As of a model on several devices, which gives a loss for each."""
    made = objective()
    made.hard = lambda progress: 0.5
    made.soft = None
    losses = (torch.tensor([1.0, 3.0]), torch.tensor(5.0))
    made.tasks = {"main": SimpleNamespace(across_steps=False)}
    terms = made(Step(student=Features({"losses": losses}), teachers={}, task="main"))
    assert total(terms) == 0.5 * (2 + 5)


@pytest.mark.parametrize("weight", ["0", "{constant: {value: 0}}"])
def test_a_loss_of_weight_0_is_not_computed(weight, launch):
    """So it needs no labels, and cannot make a total NaN."""
    step = first(
        launch,
        f"{GENERAL}.hard_labels.weight={weight}",
        "adaptors.student={logits: output.logits, hidden: output.hidden}",
    )
    assert "hard_labels" not in step.terms


def test_projections_begin_small_without_a_bias_in_a_group_of_their_own(launch):
    matches = f"{GENERAL}.matches=[{{feature: hidden, loss: hidden_mse, layers: {{3: 2}}}}]"
    wide = ("models.teacher.toy.width=96", "models.student.toy.width=64")
    ran = launch(matches, *wide, f"{TRAINING}.optimizer={{sgd: {{lr: 1.0e-300}}}}")
    weights = ran.checkpoint(6)
    projection = next(t for name, t in weights.items() if name.endswith("projection.weight"))
    assert projection.shape == (96, 64)
    assert projection.std() == pytest.approx(0.02, rel=0.05)
    assert next(t for name, t in weights.items() if name.endswith("projection.bias")).abs().max() < 1e-200
    assert ran.of(StepDone)[0].lr.keys() == {"student", "projection"}
    assert not any("projection" in name for name in ran.weights)


def test_matches_are_masked_with_the_students_mask(launch):
    masked = first(launch, folder="masked")
    adaptor = "adaptors.student={logits: output.logits, hidden: output.hidden, labels: batch.label}"
    whole = first(launch, adaptor, folder="whole")
    assert masked.terms["soft_labels"] == whole.terms["soft_labels"]
    for name in ("hidden.hidden_mse.3-2", "hidden.mmd.0-0"):
        assert masked.terms[name] != pytest.approx(whole.terms[name], rel=1e-3)


def test_attention_layers_are_counted_from_0():
    """TextBrewer's presets count attention from 1; ours are theirs less one."""
    known = registry()
    pairs = known.get("match_preset", "L3_attention_mse")().build(BuildContext())[0]["layers"]
    assert list(pairs.items())[-1] == (11, 2)
    hidden = known.get("match_preset", "L3_hidden_mse")().build(BuildContext())[0]["layers"]
    assert list(hidden.items())[-1] == (12, 3)


def test_a_schedule_is_a_function_of_the_steps_done_and_does_not_change_the_spec(launch, session):
    weight = f"{GENERAL}.soft_labels.weight={{linear_decay: {{from: 2.0}}}}"
    before = session(weight).plan.spec.model_dump(mode="json", by_alias=True)
    ran = launch(weight)
    assert [step.weights["soft_labels"] for step in ran.of(StepDone)] == pytest.approx(
        [2 * (6 - n) / 6 for n in range(6)]
    )
    assert session(weight).plan.spec.model_dump(mode="json", by_alias=True) == before


def test_the_learning_rate_changes_once_a_step_however_many_micro_batches_it_has(launch):
    ran = launch(f"{TRAINING}.lr_schedule=linear", f"{TRAINING}.accumulate=2")
    assert [step.lr["student"] for step in ran.of(StepDone)] == pytest.approx([0.01 * (6 - n) / 6 for n in range(6)])


def test_the_remainder_of_an_epoch_is_a_step_too(launch):
    """5 micro-batches an epoch, 2 a step, 2 epochs: TextBrewer drops the fifth and takes 4 steps."""
    ran = launch("tasks.rows.tensors.data.ragged.train=10", f"{TRAINING}.batch_size=2", f"{TRAINING}.accumulate=2")
    assert [step.rows for step in ran.of(StepDone)] == [4, 4, 2, 4, 4, 2]


def test_the_student_is_saved_as_its_own_weights_and_nothing_else(launch, session):
    """TextBrewer's file, but that no code runs when it is read."""
    ran = launch(folder="ran")
    made = session(folder="other")
    module = made.plan.spec.models["student"].build(ModelContext(folder=ran.folder, seed=9, name="student"))
    assert module.load_state_dict(ran.weights, strict=True)
    assert all(torch.equal(ran.weights[name], tensor) for name, tensor in module.state_dict().items())


def test_a_step_is_trained_then_saved_then_evaluated(launch):
    rows = "tasks.rows.tensors.data.ragged={train: 4, validation: 3}"
    ran = launch(rows, f"{TRAINING}.evaluate={{}}", f"{TRAINING}.epochs=2")
    kinds = [type(e) for e in ran.events if isinstance(e, (StepDone, Evaluated, CheckpointSaved, StageFinished))]
    assert kinds == [StepDone, CheckpointSaved, Evaluated] * 2 + [StageFinished]


def test_a_feature_from_inside_a_module_can_be_matched(launch):
    """TextBrewer's custom matches never ran. Here they are matches like any other, with mask and projection."""
    matches = f"{GENERAL}.matches=[{{feature: hidden, loss: hidden_mse, layers: {{3: 2}}}}]"
    inside = f"{GENERAL}.matches=[{{feature: last, loss: hidden_mse}}]"
    modules = ('adaptors.teacher.last=modules["layers.2"].output', 'adaptors.student.last=modules["layers.1"].output')
    plain = first(launch, matches, folder="plain")
    hooked = first(launch, inside, *modules, folder="hooked")
    assert hooked.terms["last.hidden_mse.all"] == plain.terms["hidden.hidden_mse.3-2"]
    assert hooked.grad_norm == pytest.approx(plain.grad_norm, rel=1e-12)


def test_several_teachers_are_the_mean_of_their_raw_logits_for_each_head_then_one_loss():
    """Statement 8, with alternatives: of probabilities, of losses, and with weights."""
    heads = {
        name: (draw(2, 4, 3, seed=seed), draw(2, 4, 3, seed=seed + 9)) for name, seed in (("a", 1), ("b", 2), ("c", 3))
    }
    student = (draw(2, 4, 3, seed=4), draw(2, 4, 3, seed=5))
    mask = torch.tensor([[1, 0, 1, 1], [1, 1, 0, 0]])
    features = {name: Features({"logits": logits, "logits_mask": mask}) for name, logits in heads.items()}
    soft = Soft(
        teachers=("a", "b", "c"), loss=lambda s, t, *, temperature: cross_entropy_soft(s, t, temperature),
        needs_labels=False, temperature=lambda *_: 8.0, weight=lambda _: 1.0, shift=False,
    )  # fmt: skip
    step = Step(student=Features({"logits": student, "logits_mask": mask}), teachers=features)
    terms = DistillationObjective(tasks={}, soft=soft)(step)
    assert list(terms) == ["soft_labels.0", "soft_labels.1"]
    kept = mask.bool()
    for head, term in enumerate(terms.values()):
        mean = (heads["a"][head] + heads["b"][head] + heads["c"][head]) / 3
        expected = cross_entropy_soft(student[head][kept], mean[kept], 8.0)
        assert float(term.loss.value) == pytest.approx(float(expected.value), abs=1e-15)
    others = [replace(soft, combine=how) for how in ("probabilities", "losses")]
    others += [replace(soft, shares=shares) for shares in ((0.5, 0.25, 0.25), "confidence")]
    totals = [total(DistillationObjective(tasks={}, soft=made)(step)) for made in (soft, *others)]
    assert len({round(value, 9) for value in totals}) == 4  # by `ce`, means of probabilities and of losses are the same
    assert totals[1] == pytest.approx(totals[2], abs=1e-12)


def test_each_micro_batch_samples_a_task_in_proportion_to_its_batches_to_the_power_of_tau():
    """Statement 9, with examples in place of batches, weights of tasks, and draws that the seed decides."""
    rows = {"a": 64, "b": 9}  # 8 batches of 8 rows, and 2
    for tau, share in ((1.0, 8 / 10), (0.5, 8**0.5 / (8**0.5 + 2**0.5)), (0.0, 0.5)):
        assert Sampling(tau=tau).probabilities(rows, 8)["a"] == pytest.approx(share)
    assert Sampling(size="examples").probabilities(rows, 8)["a"] == pytest.approx(64 / 73)
    orders = {task: DataOrder(count, 8, 1, 0) for task, count in rows.items()}
    drawn = TaskMixture(orders, Sampling().probabilities(rows, 8), accumulate=4, seed=1)
    tasks = [[draw.task for draw in drawn.of(step)] for step in range(500)]
    assert all(len(step) == 4 for step in tasks)
    assert any(len(set(step)) == 2 for step in tasks)  # of each micro-batch, not of each step
    assert sum(step.count("a") for step in tasks) / 2000 == pytest.approx(0.8, abs=0.03)
    again = TaskMixture(orders, Sampling().probabilities(rows, 8), accumulate=4, seed=1)
    assert [[draw.task for draw in again.of(step)] for step in range(499, -1, -1)] == tasks[::-1]


def total(terms):
    return sum(float(term.loss.value) * term.weight for term in terms.values())


def test_training_again_in_the_same_process_changes_nothing(launch, same):
    """TextBrewer's second `train` crashed, and its presets were changed by the first."""
    preset = f"{GENERAL}.matches=[{{preset: L3_hidden_mse}}]"
    deep = ("models.teacher.toy.depth=12", "models.student.toy.depth=3")
    first_run = launch(preset, *deep, folder="first")
    assert same.bits(first_run.weights, launch(preset, *deep, folder="second").weights)


def test_fewer_steps_than_between_two_checkpoints_are_saved_at_the_end(launch):
    ran = launch(f"{TRAINING}.checkpoint.every_steps=100")
    assert [event.step for event in ran.of(CheckpointSaved)] == [6]


# The last ones are those that TextBrewer lets pass, until the first batch fails or a registry is looked into.
MISTAKES = {
    "soft_labels.temperature=-1": "KD104",
    "soft_labels.loss=nothing": "KD201",
    "soft_labels.weigt=1": "KD101",
    "soft_labels.temperature=[constant]": "KD105",
    "soft_labels.temperature=[flsw]": "KD105",
    "soft_labels.temperature=null": "KD105",
    "soft_labels.weight=null": "KD105",
    "soft_labels.weight=exponential": "KD201",
    "matches=[{feature: hidden, loss: match_Loss, layers: {0: 0}}]": "KD201",
    "matches=[{feature: hidden, loss: hidden_mse, layers: {0: 0}, projection: Linear}]": "KD201",
    "matches=[{feature: hiden, loss: hidden_mse, layers: {0: 0}}]": "KD303",
    "matches=[{feature: hidden, loss: hidden_mse, layers: {9: 0}}]": "KD301",
}


def test_mistakes_of_a_spec_are_found_before_anything_is_loaded(session):
    for change, code in MISTAKES.items():
        with pytest.raises(DiagnosticError) as caught:
            session(f"{GENERAL}.{change}")
        (found,) = caught.value.diagnostics
        assert found.code == code, change
        assert found.primary is not None


def test_labels_are_given_to_a_loss_that_needs_them():
    seen = []

    def loss(student, teacher, *, temperature, labels):
        seen.append(labels)
        return (student - teacher).square().mean()

    soft = Soft(
        teachers=("t",), loss=loss, needs_labels=True, temperature=lambda *_: 1.0, weight=lambda _: 1.0, shift=False
    )  # fmt: skip
    made = DistillationObjective(tasks={}, soft=soft)
    labels = torch.tensor([0, 1])
    features = Features({"logits": draw(2, 3), "labels": labels})
    made(Step(student=features, teachers={"t": features}))
    assert seen[0] is labels
    assert math.isfinite(float(value(made(Step(student=features, teachers={"t": features})))))


def test_only_what_a_strategy_needs_is_read():
    """Without soft labels the teacher's logits are not needed, and rows without labels teach nothing."""
    general = General.model_validate(
        {"teacher": "t", "student": "s", "soft_labels": {"weight": 0}, "hard_labels": {"weight": 1}},
        context={"registry": registry()},
    )
    (needs,) = general.needs().tasks
    assert not needs.reads["t"]
    assert needs.hard_labels
    assert not needs.unlabelled
