"""Losses between distributions over classes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Bernoulli, Categorical, kl_divergence
from torch.nn import functional

from kdspec.ops.divergence import (
    bce_soft,
    binary_cross_entropy,
    cross_entropy,
    cross_entropy_soft,
    divergence_of_classes,
    divergence_of_labels,
    kl,
    mse_logits,
    squared_error,
)

LOSSES = [cross_entropy_soft, kl, mse_logits]
soft_losses = pytest.mark.parametrize("loss", LOSSES)

number = st.floats(-20, 20, width=32)
temperatures = st.floats(0.25, 20)


@st.composite
def logit_pairs(draw):
    rows, classes = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    lists = st.lists(number, min_size=rows * classes, max_size=rows * classes)
    return [torch.tensor(draw(lists), dtype=torch.float64).reshape(rows, classes) for _ in range(2)]


def pair(*shape):
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)]


def softmax(row, temperature):
    exponentials = [math.exp(x / temperature) for x in row]
    return [e / sum(exponentials) for e in exponentials]


def reference(loss, s, t, temperature):
    """The loss of one row, in loops."""
    if loss is mse_logits:
        return sum(((a - b) / temperature) ** 2 for a, b in zip(s, t, strict=True)) / len(s)
    p, q = softmax(t, temperature), softmax(s, temperature)
    if loss is kl:
        return temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return -sum(a * math.log(b) for a, b in zip(p, q, strict=True))


@pytest.mark.slow
@soft_losses
@settings(deadline=None)
@given(logits=logit_pairs(), temperature=temperatures)
def test_they_are_their_formulas(loss, logits, temperature):
    student, teacher = logits
    mean = loss(student, teacher, temperature)
    rows = [reference(loss, s, t, temperature) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    assert mean.value.item() == pytest.approx(sum(rows) / len(rows), rel=1e-9, abs=1e-9)
    assert (mean.count, mean.per) == (len(rows), "labels")


@settings(deadline=None)
@given(logits=logit_pairs(), temperature=temperatures)
def test_kl_is_not_negative_and_zero_at_equality(logits, temperature):
    student, teacher = logits
    assert kl(student, teacher, temperature).value > -1e-10
    assert kl(teacher, teacher, temperature).value == 0


@settings(deadline=None)
@given(logits=logit_pairs(), temperature=temperatures)
def test_kl_is_the_excess_of_the_cross_entropy_over_its_minimum(logits, temperature):
    student, teacher = logits
    excess = cross_entropy_soft(student, teacher, temperature).value - (
        minimum := cross_entropy_soft(teacher, teacher, temperature).value
    )
    assert minimum > -1e-12
    torch.testing.assert_close(kl(student, teacher, temperature).value, temperature**2 * excess, rtol=1e-7, atol=1e-7)


@settings(deadline=None)
@given(logits=logit_pairs(), temperature=temperatures)
def test_kl_is_continuous_in_the_temperature(logits, temperature):
    near, here = (kl(*logits, t).value for t in (temperature * (1 + 1e-9), temperature))
    torch.testing.assert_close(near, here, rtol=1e-6, atol=1e-6)


def test_the_gradient_of_kl_tends_to_that_of_centred_logits_as_it_gets_hot():
    """Hinton et al. 2015, equation 4: T² makes the limit independent of T."""
    student, teacher = pair(1, 4)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(kl(student, teacher, 1e4).value, student)
    difference = (student - teacher).detach()
    torch.testing.assert_close(gradient, (difference - difference.mean()) / 4, rtol=1e-3, atol=0)


@soft_losses
def test_tokens_are_rows(loss):
    student, teacher = pair(2, 3, 4)
    temperature = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    for of_tokens, of_rows in ((2.0, 2.0), (torch.tensor(2.0), 2.0), (temperature, temperature.flatten())):
        tokens = loss(student, teacher, of_tokens)
        rows = loss(student.flatten(0, 1), teacher.flatten(0, 1), of_rows)
        torch.testing.assert_close(tokens.value, rows.value)
        assert tokens.count == rows.count == 6


@soft_losses
def test_each_row_has_its_own_temperature(loss):
    student, teacher = pair(3, 4)
    temperature = torch.tensor([1.0, 4.0, 9.0])
    parts = [loss(student[i], teacher[i], float(t)).total for i, t in enumerate(temperature)]
    torch.testing.assert_close(loss(student, teacher, temperature).total, sum(parts))


@soft_losses
def test_gradients_are_those_of_the_value_and_the_teacher_has_none(loss):
    student, teacher = (x.requires_grad_() for x in pair(3, 4))
    temperature = torch.tensor([1.0, 4.0, 9.0])
    loss(student, teacher, temperature).value.backward()
    assert teacher.grad is None
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher.detach(), temperature).value, student)


@soft_losses
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("temperature", [0.5, 1, 8])
def test_extreme_logits_and_classes_that_are_ruled_out_are_finite(loss, dtype, temperature):
    inf = torch.inf
    teacher = torch.tensor([[1e4, -1e4, -inf], [-inf, 0, 1], [-1e4, -1e4, 1e4], [-inf, -inf, 0]], dtype=dtype)
    for values in ([[-1e4, 1e4, 1e4], [1, 1, 1], [1e4, -1e4, -1e4], [0, 0, 0]], [[0, 1, -inf], [-inf, 0, 1]] * 2):
        student = torch.tensor(values, dtype=dtype)
        if student.isinf().any():
            student[2:] = 0
        student.requires_grad_()
        value = loss(student, teacher, temperature).value
        value.backward()
        assert value.dtype == torch.float32
        assert value.isfinite()
        assert student.grad.isfinite().all()


def test_a_class_that_the_teacher_rules_out_is_no_class():
    student, teacher = pair(3, 4)
    teacher[:, 2] = student[:, 2] = -torch.inf
    kept = [0, 1, 3]
    for loss in (cross_entropy_soft, kl, mse_logits):
        torch.testing.assert_close(loss(student, teacher, 2).value, loss(student[:, kept], teacher[:, kept], 2).value)
    # the student has an opinion of the class, which has nothing to be compared with
    squares = mse_logits(student[:, kept], teacher[:, kept], 2)
    torch.testing.assert_close(mse_logits(pair(3, 4)[0], teacher, 2).value, squares.value * 3 / 4)


@soft_losses
def test_shapes_that_differ_are_not_broadcast(loss):
    student, teacher = pair(3, 4)
    with pytest.raises(AssertionError, match=r"\(3, 4\), teacher logits of shape \(1, 4\)"):
        loss(student, teacher[:1], 1)
    with pytest.raises(AssertionError, match=r"temperatures of shape \(4,\) for logits of shape \(3, 4\)"):
        loss(student, teacher, torch.ones(4))


@pytest.mark.parametrize("ignore", [-100, -1])
def test_hard_labels_count_where_there_is_one(ignore):
    logits = pair(2, 3, 4)[0].requires_grad_()
    labels = torch.tensor([[1, ignore, 3], [ignore, 0, ignore]])
    rows = [-math.log(softmax(logits[i, j].tolist(), 1)[labels[i, j]]) for i, j in ((0, 0), (0, 2), (1, 1))]
    mean = cross_entropy(logits, labels, ignore)
    assert mean.value.item() == pytest.approx(sum(rows) / 3, rel=1e-12)
    assert (mean.count, mean.per) == (3, "labelled")
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, labels, ignore).value, logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_without_labels_the_loss_is_zero_with_a_gradient_of_zeros(dtype):
    logits = torch.full((3, 4), torch.nan, dtype=dtype, requires_grad=True)
    value = cross_entropy(logits, torch.full((3,), -100)).value
    value.backward()
    assert value == 0
    assert value.dtype == torch.float32
    assert not logits.grad.any()


def test_labels_of_another_shape_are_refused():
    with pytest.raises(AssertionError, match=r"logits of shape \(2, 3\) and labels of shape \(3,\)"):
        cross_entropy(torch.ones(2, 3), torch.zeros(3, dtype=torch.long))


@settings(deadline=None)
@given(logits=logit_pairs(), temperature=temperatures)
def test_the_classes_of_bce_do_not_compete(logits, temperature):
    student, teacher = logits
    mean = bce_soft(student, teacher, temperature)
    p, x = (teacher / temperature).sigmoid(), student / temperature
    expected = -(p * functional.logsigmoid(x) + (1 - p) * functional.logsigmoid(-x)).mean()
    assert mean.value.item() == pytest.approx(expected.item(), rel=1e-9)
    assert (mean.count, mean.per) == (len(student), "labels")
    each = [bce_soft(student[:, [c]], teacher[:, [c]], temperature).value for c in range(student.shape[1])]
    assert mean.value.item() == pytest.approx((sum(each) / len(each)).item(), rel=1e-9)


def test_bce_takes_a_temperature_for_each_row():
    student, teacher = pair(3, 4)
    temperatures = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    rows = [bce_soft(student[[n]], teacher[[n]], temperatures[n].item()).value for n in range(3)]
    assert bce_soft(student, teacher, temperatures).value.item() == pytest.approx((sum(rows) / 3).item())


def test_hard_losses_ignore_nan_labels():
    logits, labels = pair(4, 3)[0].requires_grad_(), torch.full((4, 3), torch.nan, dtype=torch.float64)
    for loss in (binary_cross_entropy, squared_error):
        none = loss(logits, labels)
        assert (none.value.item(), none.count.item()) == (0, 0)
        labels[1, 2] = 1
        one = loss(logits, labels)
        [gradient] = torch.autograd.grad(one.value, logits)
        assert one.count.item() == 1
        assert gradient.nonzero().tolist() == [[1, 2]]
        labels[1, 2] = torch.nan


def logits_drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def test_the_divergence_of_classes_is_that_of_torch():
    student, teacher = logits_drawn(50, 7, seed=0), logits_drawn(50, 7, seed=1)
    expected = kl_divergence(Categorical(logits=teacher), Categorical(logits=student))
    assert torch.allclose(divergence_of_classes(student, teacher), expected, atol=1e-12)
    assert torch.allclose(divergence_of_classes(teacher, teacher), torch.zeros(50, dtype=torch.float64), atol=1e-12)


def test_the_divergence_of_labels_is_that_of_torch():
    student, teacher = logits_drawn(50, 7, seed=0), logits_drawn(50, 7, seed=1)
    expected = kl_divergence(Bernoulli(logits=teacher), Bernoulli(logits=student))
    assert torch.allclose(divergence_of_labels(student, teacher), expected, atol=1e-12)


def test_what_the_teacher_rules_out_contributes_nothing():
    teacher = torch.tensor([[0.0, -torch.inf, 0.0]])
    student = torch.tensor([[1.0, 5.0, 1.0]])
    expected = (0.5 * (torch.tensor(0.5).log() - student.log_softmax(-1)[0, [0, 2]])).sum()
    assert torch.allclose(divergence_of_classes(student, teacher), expected.double())
    certain = divergence_of_labels(torch.zeros(2), torch.tensor([torch.inf, -torch.inf]))
    assert torch.allclose(certain, torch.full((2,), 2.0, dtype=torch.float64).log())


def test_what_the_student_alone_rules_out_is_infinitely_far():
    assert divergence_of_classes(torch.tensor([[0.0, -torch.inf]]), torch.zeros(1, 2)).item() == torch.inf
