"""Losses between embeddings: formulas computed another way, single rows, vectors of zeros, half precision."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from kdspec.ops.embeddings.losses import contrastive, cosines, embedding_mse, similarity_kl, similarity_mse
from kdspec.ops.features import cosine

LOSSES = {
    "cos": cosine,
    "embedding_mse": embedding_mse,
    "embedding_mse of elements": partial(embedding_mse, over="elements"),
    "similarity_mse": similarity_mse,
    "similarity_kl": partial(similarity_kl, temperature=0.05),
    "similarity_kl with the diagonal": partial(similarity_kl, temperature=2.0, diagonal=True),
    "contrastive": partial(contrastive, temperature=0.05),
}
COMPARE_ROWS = [name for name in LOSSES if name.startswith(("similarity", "contrastive"))]


def value(loss, student, teacher):
    found = loss(student, teacher)
    return found if isinstance(found, torch.Tensor) else found.value


def vectors(rows=5, width=4, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator, dtype=dtype), torch.randn(
        rows, width, generator=generator, dtype=dtype
    )


def normalised(of):
    of = of.numpy()
    return of / np.linalg.norm(of, axis=1, keepdims=True)


def softmax(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_cos_of_embeddings_is_the_mean_over_rows_of_one_minus_the_cosine():
    student, teacher = vectors()
    expected = np.mean([1 - a @ b for a, b in zip(normalised(student), normalised(teacher), strict=True)])
    found = cosine(student, teacher, mask=torch.ones(5, 7))
    assert found.value.item() == pytest.approx(expected, rel=1e-10)
    assert (found.count, found.per) == (5.0, "rows")


@pytest.mark.parametrize(("over", "divisor"), [("rows", 5), ("elements", 20)])
def test_embedding_mse_over_rows_and_over_elements_differ_by_the_width(over, divisor):
    student, teacher = vectors()
    expected = ((student - teacher).numpy() ** 2).sum() / divisor
    assert embedding_mse(student, teacher, over).value.item() == pytest.approx(expected, rel=1e-12)


def test_similarity_mse_is_over_all_pairs_of_rows():
    student, teacher = vectors()
    mine, theirs = normalised(student), normalised(teacher)
    expected = ((mine @ mine.T - theirs @ theirs.T) ** 2).mean()
    assert similarity_mse(student, teacher).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("temperature", "factor"), [(0.05, 1), (2.0, 4)])
@pytest.mark.parametrize("diagonal", [True, False])
def test_similarity_kl_is_the_divergence_of_each_row_times_t_squared_above_1(temperature, factor, diagonal):
    student, teacher = vectors()
    found = []
    for row in range(5):
        others = [other for other in range(5) if diagonal or other != row]
        p, q = (softmax((of @ of.T)[row, others] / temperature) for of in (normalised(teacher), normalised(student)))
        found.append((p * np.log(p / q)).sum() * factor)
    expected = np.mean(found)
    assert similarity_kl(student, teacher, temperature, diagonal=diagonal).item() == pytest.approx(expected, rel=1e-8)


def test_contrastive_is_the_cross_entropy_of_the_own_teacher_vector():
    student, teacher = vectors()
    p = softmax(normalised(student) @ normalised(teacher).T / 0.05)
    assert contrastive(student, teacher, 0.05).item() == pytest.approx(-np.log(np.diag(p)).mean(), rel=1e-8)


def test_contrastive_with_earlier_vectors_is_that_with_more_columns():
    student, teacher = vectors()
    earlier = torch.nn.functional.normalize(vectors(seed=1)[0])
    valid = torch.tensor([True, False, True, True, False])
    scores = normalised(student) @ np.concatenate([normalised(teacher), earlier[valid].numpy()]).T
    expected = -np.log(np.diag(softmax(scores / 0.1))).mean()
    found = contrastive(student, teacher, 0.1, earlier, valid)
    assert found.item() == pytest.approx(expected, rel=1e-8)


def test_rows_with_the_same_teacher_vector_add_a_constant_and_no_gradient():
    student, teacher = vectors(2)
    doubled, student = teacher[:1].expand(3, -1), student[:1].expand(3, -1).clone().requires_grad_()
    found = contrastive(student, doubled, 0.05)
    assert found.item() == pytest.approx(math.log(3), rel=1e-9)
    (gradient,) = torch.autograd.grad(found, student)
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("name", COMPARE_ROWS)
def test_a_single_row_has_a_loss_of_0_with_a_gradient_of_zeros(name):
    student, teacher = vectors(1)
    student.requires_grad_()
    found = value(LOSSES[name], student, teacher)
    (gradient,) = torch.autograd.grad(found, student)
    assert found.item() == pytest.approx(0, abs=1e-12)
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("zeros", ["student", "teacher", "both", "one row"])
def test_vectors_of_zeros_give_finite_values_and_gradients(name, zeros):
    student, teacher = vectors(dtype=torch.float32)
    if zeros in ("student", "both"):
        student.zero_()
    if zeros in ("teacher", "both"):
        teacher.zero_()
    if zeros == "one row":
        student[2].zero_()
        teacher[3].zero_()
    student.requires_grad_()
    found = value(LOSSES[name], student, teacher)
    (gradient,) = torch.autograd.grad(found, student)
    assert found.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_half_precision_vectors_are_computed_in_float32(name, dtype):
    student, teacher = (each.to(dtype) for each in vectors(6, 32))
    student.requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        found = value(LOSSES[name], student, teacher)
    expected = value(LOSSES[name], student.double(), teacher.double())
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=2e-5)
    (gradient,) = torch.autograd.grad(found, student)
    assert gradient.dtype == dtype


@pytest.mark.parametrize("name", LOSSES)
def test_losses_state_the_shapes_that_do_not_fit(name):
    student, teacher = vectors()
    with pytest.raises(AssertionError, match=r"of shape \(5, 4\)"):
        LOSSES[name](student, teacher[:3])


def test_cosines_are_those_of_all_pairs():
    student, _ = vectors()
    np.testing.assert_allclose(cosines(student).numpy(), normalised(student) @ normalised(student).T, rtol=1e-9)
