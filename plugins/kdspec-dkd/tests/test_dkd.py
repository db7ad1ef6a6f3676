"""The loss against a reference in plain Python, its identities, and the suite that every loss must pass."""

from __future__ import annotations

import math

import kdspec_dkd
import pytest
import torch
from kdspec_dkd.ops import nckd, tckd
from pydantic import ValidationError

from kdspec import BuildContext
from kdspec.testing import check_loss, registry

DKD = registry(kdspec_dkd).get("logit_loss", "dkd")


def softmax(logits):
    largest = max(logits)
    exponentials = [math.exp(x - largest) for x in logits]
    return [x / sum(exponentials) for x in exponentials]


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def reference(student, teacher, label, temperature, alpha, beta):
    """Equation 7 for one row, from lists of numbers."""
    p, q = (softmax([x / temperature for x in logits]) for logits in (teacher, student))
    if label == -100:
        return temperature**2 * divergence(p, q)
    binary = [[x[label], sum(x) - x[label]] for x in (p, q)]
    others = [[a / (1 - x[label]) for i, a in enumerate(x) if i != label] for x in (p, q)]
    return temperature**2 * (alpha * divergence(*binary) + beta * divergence(*others))


def logits(rows=6, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(2 * torch.randn(rows, classes, generator=generator, dtype=torch.float64) for _ in range(2))


STUDENT, TEACHER = logits()
LABELS = torch.tensor([0, 4, 2, -100, 1, 3])


def value(labels=LABELS, temperature=1.0, student=STUDENT, teacher=TEACHER, **weights):
    loss = DKD(**weights).build(BuildContext())
    return loss(student, teacher, temperature=temperature, labels=labels).value


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 8.0), (0.0, 1.0), (2.5, 0.0)])
def test_it_is_the_equation_of_the_paper(temperature, alpha, beta):
    rows = zip(STUDENT.tolist(), TEACHER.tolist(), LABELS.tolist(), strict=True)
    expected = sum(reference(*row, temperature, alpha, beta) for row in rows) / 6
    found = value(temperature=temperature, alpha=alpha, beta=beta).item()
    assert found == pytest.approx(expected, rel=1e-12)


def test_its_parts_add_up_to_the_divergence():
    """KL = TCKD + (1 - p) NCKD, equation 5."""
    target = LABELS.clamp_min(0)
    p = TEACHER.softmax(-1)
    remaining = 1 - p.gather(-1, target[:, None])[:, 0]
    whole = (p * (TEACHER.log_softmax(-1) - STUDENT.log_softmax(-1))).sum(-1)
    parts = tckd(STUDENT, TEACHER, target) + remaining * nckd(STUDENT, TEACHER, target)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=0)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_with_the_weights_of_the_divergence_it_is_kl(temperature):
    kl = registry().get("logit_loss", "kl")().build(BuildContext())
    for row in range(2):
        one = slice(row, row + 1)
        student, teacher, labels = STUDENT[one], TEACHER[one], LABELS[one]
        remaining = 1 - (teacher / temperature).softmax(-1)[0, labels[0]].item()
        found = value(labels, temperature, student, teacher, alpha=1.0, beta=remaining)
        torch.testing.assert_close(found, kl(student, teacher, temperature=temperature).value, rtol=1e-12, atol=0)


def test_rows_without_labels_count_with_their_plain_divergence():
    kl = registry().get("logit_loss", "kl")().build(BuildContext())
    found = value(torch.full((6,), -100), 2.0)
    torch.testing.assert_close(found, kl(STUDENT, TEACHER, temperature=2.0).value, rtol=1e-12, atol=0)


def test_of_two_classes_there_is_nothing_to_weigh_among_the_others():
    student, teacher = logits(classes=2)
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    one, other = (value(labels, 1.0, student, teacher, beta=beta).item() for beta in (0.0, 8.0))
    assert one == pytest.approx(other, rel=1e-12)


def test_each_row_may_have_its_own_temperature():
    temperatures = torch.tensor([1.0, 2.0, 4.0, 8.0, 0.5, 3.0], dtype=torch.float64)
    each = [
        value(LABELS[i : i + 1], float(temperatures[i]), STUDENT[i : i + 1], TEACHER[i : i + 1]).item()
        for i in range(6)
    ]
    assert value(temperature=temperatures).item() == pytest.approx(sum(each) / 6, rel=1e-12)


def test_a_teacher_that_is_sure_still_teaches_about_the_other_classes():
    """Also in float32, where 1 - p of the teacher rounds to 0."""
    teacher = torch.tensor([[200.0, 2.0, 1.0, 0.0]])
    student = torch.tensor([[200.0, 0.0, 1.0, 2.0]], requires_grad=True)
    value(torch.tensor([0]), 1.0, student, teacher).backward()
    assert student.grad[0, 1] < -1
    assert student.grad[0, 3] > 1


def test_a_class_that_the_teacher_rules_out_contributes_nothing():
    teacher = TEACHER.clone()
    teacher[:, 3] = -torch.inf
    assert value(LABELS.clamp(max=2), 1.0, STUDENT, teacher).isfinite()


@pytest.mark.parametrize("weights", [{}, {"alpha": 0.5, "beta": 0.0}])
def test_it_keeps_what_kdspec_asks_of_every_loss(weights):
    check_loss(DKD(**weights), zero_at_equality=True, non_negative=True)


@pytest.mark.parametrize("weights", [{"alpha": -1}, {"beta": "8"}, {"gamma": 1}])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(ValidationError):
        DKD.model_validate(weights)


def test_its_defaults_are_those_of_the_paper():
    assert DKD().written() == {"dkd": {"alpha": 1.0, "beta": 8.0}}
