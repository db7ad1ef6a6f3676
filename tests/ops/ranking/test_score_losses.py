"""Losses between the scores of candidates."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdspec.ops.divergence import cross_entropy_soft, kl, mse_logits
from kdspec.ops.ranking.score_losses import list_mle, margin_mse, ranknet

LOSSES = [margin_mse, ranknet, list_mle]
losses = pytest.mark.parametrize("loss", LOSSES)
all_losses = pytest.mark.parametrize("loss", [*LOSSES, cross_entropy_soft, kl, mse_logits])
INF = torch.inf


def gen(shape, a, b):
    size = torch.Size(shape)
    return (2 * torch.sin(a * torch.arange(size.numel(), dtype=torch.float64) + b)).reshape(size)


STUDENT, TEACHER = gen((4, 5), 0.7, 0.1), gen((4, 5), 0.9, 0.3)
LABELS = torch.tensor([0, 3, -100, 1])

# Few values, so that there are ties.
scores = st.integers(-6, 6).map(lambda number: number / 2)


@st.composite
def rows(draw):
    """The scores of student and teacher for a query, and the place of the positive."""
    candidates = draw(st.integers(1, 5))
    lists = st.lists(scores, min_size=candidates, max_size=candidates)
    return draw(lists), draw(lists), draw(st.integers(0, candidates - 1))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def reference(loss, s, t, positive, temperature):
    """The loss of a row, in loops."""
    s, t = ([each / temperature for each in side] for side in (s, t))
    places = range(len(s))
    if loss is margin_mse:
        parts = [((s[positive] - s[i]) - (t[positive] - t[i])) ** 2 for i in places if i != positive]
    elif loss is ranknet:
        parts = []
        for i, j in itertools.combinations(places, 2):
            p, q = sigmoid(t[i] - t[j]), sigmoid(s[i] - s[j])
            parts.append(-p * math.log(q) - (1 - p) * math.log(1 - q))
    else:
        return -sum(math.log(math.exp(s[i]) / sum(math.exp(s[k]) for k in places if t[k] <= t[i])) for i in places)
    return sum(parts) / max(len(parts), 1)


def of(loss, student, teacher, temperature=1.0, labels=None):
    extra = {"labels": labels} if loss is margin_mse else {}
    return loss(student, teacher, temperature, **extra)


@losses
@settings(deadline=None)
@given(row=rows(), temperature=st.floats(0.25, 20))
def test_they_are_their_formulas(loss, row, temperature):
    s, t, positive = row
    student, teacher = (torch.tensor([each], dtype=torch.float64) for each in (s, t))
    mean = of(loss, student, teacher, temperature, torch.tensor([positive]))
    assert mean.value.item() == pytest.approx(reference(loss, s, t, positive, temperature), rel=1e-9, abs=1e-9)
    assert (mean.count, mean.per) == (1, "labels")


@settings(deadline=None)
@given(row=rows(), order=st.randoms(use_true_random=False))
@losses
def test_the_order_of_candidates_does_not_matter_not_even_of_equal_ones(loss, row, order):
    s, t, positive = row
    places = list(range(len(s)))
    order.shuffle(places)
    student, teacher = (torch.tensor([each], dtype=torch.float64) for each in (s, t))
    value = of(loss, student, teacher, labels=torch.tensor([positive])).value
    turned = of(loss, student[:, places], teacher[:, places], labels=torch.tensor([places.index(positive)])).value
    torch.testing.assert_close(turned, value)


@pytest.mark.parametrize(
    ("loss", "temperature", "expected"),
    [
        (margin_mse, 1.0, 8.384353884261227),
        (margin_mse, 8.0, 0.13100552944158167),
        (ranknet, 1.0, 1.113844663115359),
        (ranknet, 8.0, 0.7021241765457649),
        (list_mle, 1.0, 7.3507738523068085),
        (list_mle, 8.0, 4.978889054304685),
    ],
)
def test_golden_values(loss, temperature, expected):
    assert of(loss, STUDENT, TEACHER, temperature, LABELS).value.item() == pytest.approx(expected, rel=1e-12)


def test_margins_are_those_to_the_positive_by_label_and_else_to_the_first():
    first = torch.tensor([0, 3, 0, 1])
    assert of(margin_mse, STUDENT, TEACHER, labels=LABELS).value == of(margin_mse, STUDENT, TEACHER, labels=first).value
    without = of(margin_mse, STUDENT, TEACHER).value
    assert without == of(margin_mse, STUDENT, TEACHER, labels=torch.zeros(4, dtype=torch.long)).value
    assert without != of(margin_mse, STUDENT, TEACHER, labels=LABELS).value
    # a positive that the teacher has not scored gives no margins: the first candidate that it has scored does
    student, teacher = STUDENT.clone(), TEACHER.clone()
    student[:, 0] = teacher[:, 0] = -INF
    second = torch.tensor([1, 3, 1, 1])
    assert (
        of(margin_mse, student, teacher, labels=LABELS).value == of(margin_mse, student, teacher, labels=second).value
    )


def test_margins_do_not_change_with_an_offset_of_a_row():
    offset = torch.tensor([[7.0], [-3.0], [0.5], [100.0]], dtype=torch.float64)
    value = of(margin_mse, STUDENT, TEACHER, labels=LABELS).value
    torch.testing.assert_close(of(margin_mse, STUDENT + offset, TEACHER - offset, labels=LABELS).value, value)


def test_ranknet_with_a_cold_teacher_follows_its_order():
    """Burges' cost for labels: log(1 + exp(s_j - s_i)) where i is better than j, and ½ of each for equal ones."""
    student, teacher = torch.tensor([[0.5, -1.0, 2.0]]), torch.tensor([[3.0, 1.0, 1.0]]) * 1e6
    pairs = [math.log1p(math.exp(-1.5)), math.log1p(math.exp(1.5))]
    tie = 0.5 * math.log1p(math.exp(3.0)) + 0.5 * math.log1p(math.exp(-3.0))
    assert ranknet(student, teacher, 1).value.item() == pytest.approx((sum(pairs) + tie) / 3, rel=1e-6)


def test_list_mle_is_the_likelihood_of_the_teachers_order_where_no_two_are_equal():
    student, teacher = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64), torch.tensor([[0.1, 0.9, 0.3]])
    order = [-1.0, 2.0, 0.5]
    drawn = [math.exp(s) / sum(map(math.exp, order[i:])) for i, s in enumerate(order)]
    assert list_mle(student, teacher, 1).value.item() == pytest.approx(-math.log(math.prod(drawn)), rel=1e-12)


@all_losses
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_candidates_that_are_not_there_change_neither_value_nor_gradient(loss, dtype):
    student, teacher = (side.to(dtype) for side in (STUDENT, TEACHER))
    numbers = [5, 3, 1, 2]
    wanted, gradients = [], []
    for row, number in enumerate(numbers):
        own = student[row : row + 1, :number].clone().requires_grad_()
        mean = of(loss, own, teacher[row : row + 1, :number], 2.0, torch.tensor([min(row, number - 1)]))
        wanted.append(mean.total)
        gradients.append(torch.autograd.grad(mean.total, own)[0][0])
    there = torch.arange(7) < torch.tensor(numbers)[:, None]
    wider = torch.nn.functional.pad(student, (0, 2)).requires_grad_()
    labels = torch.tensor([0, 1, 0, 1])
    sides = (torch.where(there, each, -INF) for each in (wider, torch.nn.functional.pad(teacher, (0, 2))))
    mean = of(loss, *sides, 2.0, labels)
    torch.testing.assert_close(mean.total, sum(wanted))
    (gradient,) = torch.autograd.grad(mean.total, wider)
    assert gradient.isfinite().all()
    assert not gradient[~there].any()
    for row, number in enumerate(numbers):
        torch.testing.assert_close(gradient[row, :number], gradients[row])


@losses
def test_rows_with_nothing_to_compare_are_zero_with_a_gradient_of_zeros(loss):
    student = torch.tensor([[3.0, -INF], [-INF, -INF]], requires_grad=True)
    mean = of(loss, student, student.detach())
    assert (mean.value.item(), mean.count) == (0, 2)
    (gradient,) = torch.autograd.grad(mean.value, student)
    assert not gradient.any()


@losses
def test_gradients_are_those_of_the_value_and_the_teacher_has_none(loss):
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    temperature = torch.tensor([1.0, 4.0, 9.0, 0.5])
    of(loss, student, teacher, temperature, LABELS).value.backward()
    assert teacher.grad is None
    assert torch.autograd.gradcheck(lambda s: of(loss, s, teacher.detach(), temperature, LABELS).value, student)
    parts = [
        of(loss, STUDENT[i : i + 1], TEACHER[i : i + 1], float(t), LABELS[i : i + 1]).total
        for i, t in enumerate(temperature)
    ]
    torch.testing.assert_close(of(loss, STUDENT, TEACHER, temperature, LABELS).total, sum(parts))


@losses
def test_shapes_that_differ_are_not_broadcast(loss):
    with pytest.raises(AssertionError, match=r"\(4, 5\), teacher logits of shape \(1, 5\)"):
        of(loss, STUDENT, TEACHER[:1])
    with pytest.raises(AssertionError, match=r"temperatures of shape \(5,\) for logits of shape \(4, 5\)"):
        of(loss, STUDENT, TEACHER, torch.ones(5))


def test_labels_of_another_shape_are_refused():
    with pytest.raises(AssertionError, match=r"labels of shape \(5,\) for scores of shape \(4, 5\)"):
        of(margin_mse, STUDENT, TEACHER, labels=torch.zeros(5, dtype=torch.long))
