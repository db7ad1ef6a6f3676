"""What changes no loss between embeddings: rotations, lengths, the order of rows; and what each is at equality."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdspec.ops.embeddings.losses import contrastive, embedding_l2, embedding_mse, similarity_kl, similarity_mse
from kdspec.ops.embeddings.similarity_order import cosent, triplet_order
from kdspec.ops.features import cosine

OF_SIMILARITIES = {
    "similarity_mse": similarity_mse,
    "similarity_kl": partial(similarity_kl, temperature=0.1),
    "similarity_kl with the diagonal": partial(similarity_kl, temperature=0.1, diagonal=True),
    "triplet_order": partial(triplet_order, margin=0.015),
    "cosent": partial(cosent, scale=20.0),
}
OF_DIRECTIONS = {"cos": cosine, "contrastive": partial(contrastive, temperature=0.1), **OF_SIMILARITIES}
LOSSES = {"embedding_mse": embedding_mse, "embedding_l2": embedding_l2, **OF_DIRECTIONS}
ROWS = st.integers(2, 9)
SEEDS = st.integers(0, 2**31)
few = settings(max_examples=25)


def value(loss, student, teacher):
    found = loss(student, teacher)
    return found if isinstance(found, torch.Tensor) else found.value


def vectors(rows, seed, count=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, rows, 6, generator=generator, dtype=torch.float64).unbind()


def rotation(seed):
    found, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    return found


@pytest.mark.parametrize("name", LOSSES)
@few
@given(rows=ROWS, seed=SEEDS)
def test_the_order_of_the_rows(name, rows, seed):
    student, teacher = vectors(rows, seed)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        value(LOSSES[name], student[order], teacher[order]), value(LOSSES[name], student, teacher)
    )


@pytest.mark.parametrize("name", LOSSES)
@few
@given(rows=ROWS, seed=SEEDS)
def test_one_rotation_of_both_models(name, rows, seed):
    student, teacher = vectors(rows, seed)
    turned = value(LOSSES[name], student @ rotation(seed), teacher @ rotation(seed))
    torch.testing.assert_close(turned, value(LOSSES[name], student, teacher), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", OF_SIMILARITIES)
@few
@given(rows=ROWS, seed=SEEDS)
def test_a_rotation_of_the_student_alone_for_losses_of_similarities(name, rows, seed):
    student, teacher = vectors(rows, seed)
    turned = value(OF_SIMILARITIES[name], student @ rotation(seed), teacher)
    torch.testing.assert_close(turned, value(OF_SIMILARITIES[name], student, teacher))


@pytest.mark.parametrize("name", OF_DIRECTIONS)
@few
@given(rows=ROWS, seed=SEEDS, factor=st.floats(0.1, 100))
def test_the_lengths_of_the_vectors_for_losses_of_directions(name, rows, seed, factor):
    student, teacher = vectors(rows, seed)
    longer = factor * student * torch.linspace(0.5, 2, rows, dtype=torch.float64)[:, None]
    torch.testing.assert_close(
        value(OF_DIRECTIONS[name], longer, teacher), value(OF_DIRECTIONS[name], student, teacher), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("contrastive", "triplet_order", "cosent")])
@few
@given(rows=ROWS, seed=SEEDS)
def test_equal_models_have_a_loss_of_0_and_no_loss_is_negative(name, rows, seed):
    student, teacher = vectors(rows, seed)
    assert value(LOSSES[name], teacher, teacher).item() == pytest.approx(0, abs=1e-8)
    assert value(LOSSES[name], student, teacher).item() >= 0


@few
@given(rows=ROWS, seed=SEEDS)
def test_embedding_mse_of_normalised_vectors_is_twice_cos(rows, seed):
    student, teacher = (torch.nn.functional.normalize(each) for each in vectors(rows, seed))
    expected = 2 * cosine(student, teacher).value
    torch.testing.assert_close(embedding_mse(student, teacher).value, expected, rtol=1e-6, atol=1e-9)
