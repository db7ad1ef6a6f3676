"""The order of similarities: against all comparisons made one by one, with ties, few rows, and many."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdspec.ops.embeddings.losses import cosines
from kdspec.ops.embeddings.similarity_order import STEP, cosent, triplet_order

MARGIN, SCALE = 0.015, 20.0
LOSSES = {"triplet_order": lambda s, t: triplet_order(s, t, MARGIN), "cosent": lambda s, t: cosent(s, t, SCALE)}


def compared(name, student, teacher, margin=MARGIN, scale=SCALE):
    """Every comparison by itself: rows⁴ of them."""
    first, second = torch.triu_indices(len(student), len(student), 1)
    mine, theirs = cosines(student)[first, second], (cosines(teacher.double())[first, second] / STEP).round()
    above = theirs[:, None] > theirs[None, :]
    differences = mine[None, :] - mine[:, None]
    if name == "triplet_order":
        return ((differences + margin).clamp_min(0) * above).sum() / above.sum().clamp_min(1)
    return torch.log1p(((scale * differences).exp() * above).sum())


def vectors(rows, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(rows, 5, generator=generator, dtype=dtype)
    return student.requires_grad_(), torch.randn(rows, 7, generator=generator, dtype=dtype)


def with_gradient(value, student):
    return value, torch.autograd.grad(value, student, retain_graph=True)[0]


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=40)
@given(
    rows=st.integers(1, 17),
    seed=st.integers(0, 2**31),
    alike=st.lists(st.tuples(st.integers(0, 16), st.integers(0, 16)), max_size=6),
)
def test_it_is_the_sum_over_all_comparisons_with_its_gradient(name, rows, seed, alike):
    student, teacher = vectors(rows, seed)
    for one, other in alike:  # rows with the same text: their similarities to others are equal
        teacher[one % rows] = teacher[other % rows].clone()
    found, expected = LOSSES[name](student, teacher), compared(name, student, teacher)
    if rows > 2:
        torch.testing.assert_close(with_gradient(found, student), with_gradient(expected, student))
    else:
        assert found.item() == 0


@settings(max_examples=30)
@given(margin=st.floats(0, 2), seed=st.integers(0, 2**31))
def test_every_margin_is_counted(margin, seed):
    student, teacher = vectors(9, seed)
    found, expected = triplet_order(student, teacher, margin), compared("triplet_order", student, teacher, margin)
    torch.testing.assert_close(with_gradient(found, student), with_gradient(expected, student))


@pytest.mark.parametrize("name", LOSSES)
def test_rounding_of_the_teachers_vectors_orders_nothing(name):
    student, teacher = vectors(12, dtype=torch.float32)
    teacher = teacher[[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]]
    noise = 1e-7 * torch.randn(12, 7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        LOSSES[name](student, teacher), LOSSES[name](student, teacher + noise), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("name", LOSSES)
def test_students_that_are_equal_to_one_another_are_counted_as_well(name):
    student, teacher = vectors(6)
    student = student.detach()[[0, 0, 1, 1, 2, 2]].requires_grad_()
    torch.testing.assert_close(LOSSES[name](student, teacher), compared(name, student, teacher))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("rows", [1, 2])
def test_few_rows_have_a_loss_of_0_with_a_gradient_of_zeros(name, rows):
    student, teacher = vectors(rows)
    found, gradient = with_gradient(LOSSES[name](student, teacher), student)
    assert found.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("name", LOSSES)
def test_a_teacher_that_orders_nothing_gives_a_loss_of_0(name):
    student, teacher = vectors(5)
    found, gradient = with_gradient(LOSSES[name](student, teacher[:1].expand(5, -1)), student)
    assert found.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("zeros", ["student", "teacher", "one row"])
def test_vectors_of_zeros_give_finite_values_and_gradients(name, zeros):
    student, teacher = (each.detach().clone() for each in vectors(5, dtype=torch.float32))
    if zeros == "student":
        student.zero_()
    elif zeros == "teacher":
        teacher.zero_()
    else:
        student[2].zero_()
        teacher[3].zero_()
    student.requires_grad_()
    found, gradient = with_gradient(LOSSES[name](student, teacher), student)
    assert found.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_half_precision_vectors_are_computed_in_float32(name, dtype):
    student, teacher = (each.detach().to(dtype) for each in vectors(8))
    with torch.autocast("cpu", dtype=dtype):
        found = LOSSES[name](student, teacher)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(LOSSES[name](student.double(), teacher.double()).item(), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_the_order_of_the_rows_changes_nothing(name):
    student, teacher = vectors(12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(LOSSES[name](student, teacher), LOSSES[name](student[order], teacher[order]))


def test_memory_grows_with_the_number_of_pairs():
    """All comparisons of 256 rows at once would take more than 4 GB."""
    largest = 0

    class Largest(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            found = function(*args, **(kwargs or {}))
            if isinstance(found, torch.Tensor):
                largest = max(largest, found.numel())
            return found

    student, teacher = vectors(256, dtype=torch.float32)
    with Largest():
        triplet_order(student, teacher, MARGIN)
        cosent(student, teacher, SCALE)
    assert largest <= 2 * 256**2
