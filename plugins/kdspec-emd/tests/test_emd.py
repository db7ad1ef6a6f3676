"""The transport against brute force, TextBrewer's golden value, the weights of layers, and whole runs."""

from __future__ import annotations

import itertools
import math

import kdspec_emd
import pytest
import torch
from kdspec_emd.ops import SMALLEST, plan, unit_costs, weights
from safetensors.torch import load_file

from kdspec import Features, ModelFacts, ObjectiveContext, Step
from kdspec.testing import check, registry, run, tiny

KNOWN = registry(kdspec_emd)
EMD = KNOWN.get("distiller", "emd")

SPEC = """
kdspec: 1
name: moved
tasks: {reviews: {sequence_classification: {data: {csv: {train: rows.csv}}, text: text, label: label}}}
models:
  teacher: {transformers: {path: ./tiny}}
  student: {transformers: {like: teacher, config: {num_hidden_layers: 2, hidden_size: 8}}}
stages:
  fit: {distiller: {supervised: {model: teacher}}, training: {steps: 1, batch_size: 2}}
  distil:
    distiller: {emd: {teacher: teacher, student: student}}
    training: {steps: 4, batch_size: 2, accumulate: 2, checkpoint: {every_steps: 1}, log_every: 1}
"""
MOVED = "stages.distil.distiller.emd"

STOP = """
import os, signal
from kdspec import hookimpl

@hookimpl
def kdspec_observe(event, session):
    if type(event).__name__ == "StepDone" and (event.stage, event.step) == ("distil", 2):
        os.kill(os.getpid(), signal.SIGTERM)  # SIGINT is ignored in a background job
"""


def gen(shape, a, b):
    """The golden inputs: 2 · sin(a i + b) at the i-th element."""
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return (2 * torch.sin(a * i + b)).view(shape)


@pytest.fixture
def folder(tmp_path):
    """Three layers, 16 wide, and four rows."""
    tiny(tmp_path / "tiny", layers=3)
    (tmp_path / "rows.csv").write_text("text,label\ngood,yes\nbad,no\nfine it is,yes\nawful,no\n")
    return tmp_path


def objective(student, teacher, widths=None, **parameters):
    """The objective for features of these numbers of layers, as a stage would make it."""
    widths = widths or (4, 4)
    emd = EMD.model_validate({"teacher": "t", "student": "s", **parameters}, context={"registry": KNOWN})
    (needs,) = emd.needs().tasks
    facts = {
        "s": ModelFacts(layers=student, width=widths[0], heads=2),
        "t": ModelFacts(layers=teacher, width=widths[1], heads=2),
    }
    from kdspec import PlannedMatch

    matches = tuple(
        PlannedMatch(
            term="embeddings",
            feature="hidden",
            loss=match.loss,
            teacher="t",
            student="s",
            teacher_layers=(0,),
            student_layers=(0,),
            weight=match.weight,
            projection=KNOWN.get("projection", "linear")() if widths[0] != widths[1] else None,
            student_width=widths[0],
            teacher_width=widths[1],
        )
        for match in needs.matches
    )
    return emd.build(ObjectiveContext(matches=matches, facts=facts)).double()


def features(layers, a, slope, phase, shape=(2, 3, 4), **others):
    """`layers` hidden states besides the embedding output."""
    hidden = {"hidden": tuple(gen(shape, a + slope * k, phase * k) for k in range(layers + 1))}
    return Features(hidden | others)


def golden(**others):
    student = features(2, 0.3, 0.1, 0.1, logits=gen((2, 5), 0.7, 0.1), **others)
    return Step(student=student, teachers={"t": features(4, 0.5, 0.07, 0.2, logits=gen((2, 5), 0.9, 0.3))})


def total(terms):
    return sum(term.weight * getattr(term.loss, "value", term.loss) for term in terms.values()).item()


def test_it_has_textbrewers_golden_value():
    soft = {"loss": "ce", "temperature": 8}
    terms = objective(2, 4, soft_labels=soft, hidden={"weight": 2})(golden())
    assert terms["emd.hidden"].loss.value.item() == pytest.approx(3.3804202609143683, rel=1e-10)
    assert terms["embeddings"].loss.value.item() == pytest.approx(4.6865720477489425, rel=1e-10)
    assert terms["soft_labels"].loss.value.item() == pytest.approx(1.606342210040644, rel=1e-10)
    assert total(terms) == pytest.approx(17.740326827367266, rel=1e-10)


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_between_equal_numbers_of_layers_it_is_the_best_assignment(size):
    """Of uniform weights the cheapest plan is a permutation (Birkhoff)."""
    costs = torch.rand(size, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    uniform = torch.full((size,), 1 / size)
    best = min(sum(costs[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(size)))
    assert (plan(costs, uniform, uniform) * costs).sum().item() == pytest.approx(best.item() / size, rel=1e-12)


def test_a_plan_moves_all_of_both_sides_and_no_other_plan_costs_less():
    """Its dual proves that: prices u + v <= cost everywhere, with equality where something flows."""
    generator = torch.Generator().manual_seed(5)
    costs = torch.rand(4, 12, generator=generator, dtype=torch.float64) * 300
    supply, demand = (torch.rand(n, generator=generator, dtype=torch.float64) for n in (4, 12))
    supply, demand = supply / supply.sum(), demand / demand.sum()
    flows = plan(costs, supply, demand)
    assert flows.min() >= 0
    torch.testing.assert_close(flows.sum(1), supply, rtol=0, atol=1e-12)
    torch.testing.assert_close(flows.sum(0), demand, rtol=0, atol=1e-12)
    u, v = {0: 0.0}, {}
    edges = [tuple(edge) for edge in (flows > 1e-12).nonzero().tolist()]
    for _ in range(len(edges)):
        for i, j in edges:
            if i in u:
                v.setdefault(j, costs[i, j].item() - u[i])
            elif j in v:
                u[i] = costs[i, j].item() - v[j]
    assert (len(u), len(v)) == (4, 12)
    assert all(u[i] + v[j] <= costs[i, j].item() + 1e-9 for i in u for j in v)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_costs_that_are_not_finite_do_not_stop_the_solver(bad):
    flows = plan(torch.tensor([[1.0, bad], [2.0, 3.0]]), torch.ones(2), torch.ones(2))
    assert flows.tolist() == [[0.25, 0.25], [0.25, 0.25]]


def test_costs_of_zero_have_a_plan():
    assert plan(torch.zeros(2, 3), torch.ones(2), torch.ones(3)).sum().item() == pytest.approx(1)


def test_the_plan_is_a_constant_for_the_gradient():
    """d/dS Σ F C = Σ F dC/dS: the gradient of the same sum with F given."""
    step = golden(inputs_mask=torch.tensor([[1, 1, 1], [1, 1, 0]]))
    layer = step.student["hidden"][1].requires_grad_()
    made = objective(2, 4, soft_labels={"weight": 0})
    made(step)["emd.hidden"].loss.value.backward()
    (transport,) = made.transports
    losses = made._losses(transport, step)
    costs = torch.stack([torch.stack([loss.value for loss in row]) for row in losses])
    flows = plan(costs, torch.ones(2), torch.ones(4))
    (expected,) = torch.autograd.grad((flows * costs).sum(), layer)
    torch.testing.assert_close(layer.grad, expected)
    assert layer.grad[1, 2].abs().sum() == 0  # padding


def test_layers_of_other_widths_are_projected_one_by_one():
    made = objective(2, 4, widths=(4, 6), soft_labels={"weight": 0})
    student = features(2, 0.3, 0.1, 0.1)
    teacher = features(4, 0.5, 0.07, 0.2, shape=(2, 3, 6))
    terms = made(Step(student=student, teachers={"t": teacher}))
    assert terms["emd.hidden"].loss.value.isfinite()
    groups = {group["name"]: sum(p.numel() for p in group["params"]) for group in made.parameter_groups()}
    assert groups == {"embeddings": 30, "emd.1": 30, "emd.2": 30}
    assert sum(p.numel() for p in made.parameters()) == 90


def test_unit_costs_are_what_a_layer_pays_for_its_weight():
    flows = torch.tensor([[0.5, 0.0], [0.1, 0.4]], dtype=torch.float64)
    costs = torch.tensor([[2.0, 9.0], [3.0, 1.0]], dtype=torch.float64)
    student, teacher = unit_costs(flows, costs)
    assert student.tolist() == pytest.approx([2.0, (0.3 + 0.4) / 0.5])
    assert teacher.tolist() == pytest.approx([(1.0 + 0.3) / 0.6, 1.0])


def test_new_weights_are_the_softmax_of_the_ratios_of_costs():
    hidden, attention = torch.tensor([1.0, 3.0]).double(), torch.tensor([2.0, 2.0]).double()
    ratios = [(4 / 1 + 4 / 2) / 2, (4 / 3 + 4 / 2) / 2]
    expected = [math.exp(ratio / 2) for ratio in ratios]
    found = weights([hidden, attention], temperature=2.0)
    assert found.tolist() == pytest.approx([x / sum(expected) for x in expected], rel=1e-12)


@pytest.mark.parametrize("units", [[0.0, 0.0], [0.0, 5.0], [1e-30, 1.0], [1.0, 1.0]])
def test_weights_stay_positive_and_sum_to_one(units):
    found = weights([torch.tensor(units).double()], temperature=0.01)
    assert found.sum().item() == pytest.approx(1)
    assert found.min() >= SMALLEST / 2


def test_layers_that_are_cheap_to_move_weigh_more_after_a_step():
    made = objective(2, 4, soft_labels={"weight": 0}, adaptive={"temperature": 1.0})
    step = golden()
    before = made(step)["emd.hidden"].loss.value.item()
    assert made.student_weights.tolist() == [0.5, 0.5]
    made.on_step_end(0.1)
    assert made.student_weights.sum().item() == pytest.approx(1)
    assert made.teacher_weights.std() > 0
    assert made(step)["emd.hidden"].loss.value.item() < before


def test_without_adaptive_weights_stay_as_they_are():
    made = objective(2, 4)
    made(golden())
    made.on_step_end(0.5)
    assert made.teacher_weights.tolist() == [0.25] * 4


def test_attention_is_moved_too():
    maps = [gen((2, 2, 3, 3), 0.3 + 0.1 * k, 0.1).softmax(-1) for k in range(6)]
    student = features(2, 0.3, 0.1, 0.1, attention=tuple(maps[:2]))
    teacher = features(4, 0.5, 0.07, 0.2, attention=tuple(maps[2:]))
    made = objective(2, 4, soft_labels={"weight": 0}, attention={"weight": 3}, adaptive={})
    terms = made(Step(student=student, teachers={"t": teacher}))
    costs = torch.stack([torch.stack([(s - t).square().mean() for t in maps[2:]]) for s in maps[:2]])
    expected = (plan(costs, torch.ones(2), torch.ones(4)) * costs).sum()
    assert terms["emd.attention"].weight == 3
    torch.testing.assert_close(terms["emd.attention"].loss.value, expected)
    made.on_step_end(0.1)
    assert made.teacher_weights.std() > 0


def test_a_loss_of_a_plugin_that_gives_a_scalar_will_do():
    from kdspec import FeatureLoss

    class Distance(FeatureLoss):
        """The mean distance."""

        name = "distance"

        def build(self, context):
            return lambda student, teacher, *, mask: (student - teacher).abs().mean()

    made = objective(2, 4, soft_labels={"weight": 0}, hidden={"loss": Distance()})
    assert made(golden())["emd.hidden"].loss.ndim == 0


def test_other_numbers_of_layers_than_the_configuration_has_are_reported():
    with pytest.raises(Exception, match="`hidden` of `t` has 5 tensors; `emd` moves the embedding output and 3 layers"):
        objective(2, 3)(golden())


def test_heads_that_differ_need_another_loss(folder):
    student = "models.student.transformers.config={num_hidden_layers: 2, num_attention_heads: 4}"
    with pytest.raises(Exception, match="compares head by head") as caught:
        run(SPEC, folder / "runs", kdspec_emd, folder=folder, sets=[student, f"{MOVED}.attention={{}}"])
    assert caught.value.diagnostics[0].code == "KD309"


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ("hidden={loss: mmd}", "KD104", "`mmd` takes two layers of each model"),
        ("hidden={weight: 0}", "KD104", "no layer moves"),
        ("adaptive={temperature: 0}", "KD104", "at least 0.001"),
        ("adaptve={temperature: 1}", "KD101", "unknown key `adaptve`"),
        ("hidden={loss: attention_mse}", "KD313", "`attention_mse` is a loss for `attention`"),
        ("hidden={projection: none}", "KD302", "`student` is 8 wide, `teacher` 16"),
        ("teacher=student", "KD307", "own teacher"),
    ],
)
def test_mistakes_are_found_before_anything_runs(change, code, message, folder):
    errors = check(SPEC, kdspec_emd, folder=folder, sets=[f"{MOVED}.{change}"]).errors
    assert [error.code for error in errors] == [code]
    assert message in errors[0].message


def test_a_run_with_everything_resumes_bit_for_bit(folder):
    """The weights of the layers are part of the state: they are in the checkpoint."""
    sets = [f"{MOVED}.adaptive={{temperature: 0.5}}", f"{MOVED}.attention={{}}", f"{MOVED}.hard_labels={{weight: 1}}"]
    whole = run(SPEC, folder / "whole", kdspec_emd, folder=folder, sets=sets)
    (folder / "stop.py").write_text(STOP)
    with pytest.raises(Exception, match="stopped by signal"):
        run(SPEC, folder / "runs", kdspec_emd, folder / "stop.py", folder=folder, sets=sets)
    resumed = run(SPEC, folder / "runs", kdspec_emd, folder=folder, sets=sets)
    assert [stage.name if hasattr(stage, "name") else stage.stage for stage in resumed.stages] == ["distil"]
    states = []
    for result in (whole, resumed):
        checkpoint = result.folder / "checkpoints" / "distil" / "step-00000004" / "weights.safetensors"
        states.append({**load_file(checkpoint), **load_file(result.student / "model.safetensors")})
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert states[0]["objective.teacher_weights"].std() > 0
