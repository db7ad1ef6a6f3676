"""Soft labels: what is compared, at which temperatures."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from kdspec import HeadLogits, LogitLoss, Mean
from kdspec.api.kinds.context import BuildContext
from kdspec.api.working.logits import TopKLogits
from kdspec.api.working.step import Features, Step
from kdspec.builtins.losses.temperatures import SideTemperatures
from kdspec.objectives.soft_labels import Soft
from kdspec.ops.temperature import Sides
from kdspec.testing import registry

REGISTRY = registry()
S, T = 0.5, 3.0
LABELS = torch.tensor([0, 3, -100, 1])


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER, OTHER = (draw(4, 5, seed=seed) for seed in range(3))


class Plugin(LogitLoss):
    """A loss as a plugin has it, which knows of one temperature only, with T² and a margin. The mean over rows."""

    name = "plugin"
    scope = "position"

    def build(self, context):
        def loss(student, teacher, *, temperature):
            if isinstance(temperature, torch.Tensor):
                temperature = temperature[..., None]
            each = ((student / temperature).softmax(-1) - (teacher / temperature).softmax(-1)).abs() * temperature**2
            return Mean(each.sum(), float(len(each)), "labels")

        return loss


LOSSES = {name: REGISTRY.get("logit_loss", name) for name in REGISTRY.names("logit_loss")} | {"plugin": Plugin}
SQUARED = {"kl", "plugin"}
each_loss = pytest.mark.parametrize("name", LOSSES)


def soft(name, temperature, teachers=("t",), **options):
    loss = LOSSES[name]()
    return Soft(
        teachers=teachers, loss=loss.build(BuildContext()), needs_labels=loss.needs_labels, takes_labels=loss.takes_labels, weight=lambda _: 1.0,
        temperature=temperature if callable(temperature) else lambda *_: temperature, by_position=loss.scope == "position",
        **{"shift": False, **options},
    )  # fmt: skip


def value(made, student, *teachers):
    features = {"logits": student, "labels": LABELS}
    of = {name: Features({"logits": each}) for name, each in zip(made.teachers, teachers, strict=True)}
    ((_, loss, _),) = made.losses(Step(student=Features(features), teachers=of))
    return loss.value if isinstance(loss, Mean) else loss


@each_loss
def test_each_side_is_divided_by_its_temperature_and_the_factor_is_the_students(name):
    expected = value(soft(name, 1.0), STUDENT / S, TEACHER / T) * (S**2 if name in SQUARED else 1)
    built = SideTemperatures(student=S, teacher=T).build(BuildContext())
    torch.testing.assert_close(value(soft(name, built), STUDENT, TEACHER), expected)


def test_the_divergence_is_that_of_the_formula():
    p, q = (TEACHER / T).softmax(-1), (STUDENT / S).log_softmax(-1)
    found = value(soft("kl", Sides(S, T)), STUDENT, TEACHER)
    torch.testing.assert_close(found, S**2 * functional.kl_div(q, p, reduction="batchmean"))


@each_loss
def test_equal_temperatures_of_both_sides_are_one_temperature(name):
    found = value(soft(name, Sides(2.0, 2.0)), STUDENT, TEACHER)
    assert found == value(soft(name, 2.0), STUDENT, TEACHER)


@each_loss
def test_each_row_may_have_its_own_temperatures(name):
    rows = Sides(torch.tensor([0.5, 1, 2, 4]), torch.tensor([3.0, 2, 1, 0.5]))
    parts = []
    for row in range(4):
        made = soft(name, Sides(float(rows.student[row]), float(rows.teacher[row])))
        features = Features({"logits": STUDENT[[row]], "labels": LABELS[[row]]})
        ((_, loss, _),) = made.losses(Step(student=features, teachers={"t": Features({"logits": TEACHER[[row]]})}))
        parts.append(loss.value)
    torch.testing.assert_close(value(soft(name, rows), STUDENT, TEACHER), torch.stack(parts).mean())


@pytest.mark.parametrize("combine", ["logits", "probabilities"])
def test_several_teachers_are_averaged_at_their_temperature(combine):
    found = value(soft("kl", Sides(S, T), ("t", "u"), combine=combine), STUDENT, TEACHER, OTHER)
    both = [(each / T) for each in (TEACHER, OTHER)]
    p = (
        ((both[0] + both[1]) / 2).softmax(-1)
        if combine == "logits"
        else (both[0].softmax(-1) + both[1].softmax(-1)) / 2
    )
    q = (STUDENT / S).log_softmax(-1)
    torch.testing.assert_close(found, S**2 * functional.kl_div(q, p, reduction="batchmean"))


def test_the_shift_to_the_label_comes_before_the_temperatures():
    shifted = TEACHER.clone()
    for row, label in enumerate(LABELS.tolist()):
        if label >= 0:
            best = int(TEACHER[row].argmax())
            shifted[row, [label, best]] = TEACHER[row, [best, label]]
    found = value(soft("kl", Sides(S, T), shift=True), STUDENT, TEACHER)
    torch.testing.assert_close(found, value(soft("kl", Sides(S, T)), STUDENT, shifted))


def test_a_large_head_in_chunks_has_the_value_and_the_gradient_of_all_logits(monkeypatch):
    monkeypatch.setattr("kdspec.ops.vocabulary.LEAST", 1)
    monkeypatch.setattr("kdspec.ops.vocabulary.BUDGET", 1)
    weight, hidden = draw(5, 3, seed=4), draw(4, 3, seed=5)
    found = []
    for chunked in (True, False):
        leaf = weight.clone().requires_grad_()
        student = HeadLogits(hidden, leaf) if chunked else functional.linear(hidden, leaf)
        loss = value(soft("kl", Sides(S, T)), student, TEACHER)
        found.append((loss.detach(), *torch.autograd.grad(loss, leaf)))
    torch.testing.assert_close(*found)


def test_of_the_largest_logits_each_side_has_its_temperature_and_the_total_of_the_others_that_of_the_teacher():
    values, ids = TEACHER.topk(2)
    others = TEACHER.scatter(-1, ids, -torch.inf)
    largest = TopKLogits(ids, values, {T: (others / T).logsumexp(-1)}, 5)
    found = value(soft("kl", Sides(S, T)), STUDENT, largest)
    sides = []
    for logits, at in ((TEACHER, T), (STUDENT, S)):
        p = (logits / at).softmax(-1)
        listed = p.gather(-1, ids)
        sides.append(torch.cat([listed, 1 - listed.sum(-1, keepdim=True)], -1))
    p, q = sides
    torch.testing.assert_close(found, S**2 * functional.kl_div(q.log(), p, reduction="batchmean"))
