"""Losses between attention maps of probabilities, against loops over plain numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdspec.ops.attention import attention_ce, attention_ce_mean, attention_mse, attention_mse_sum

B, H, L = 2, 3, 4
MASK = np.array([[1, 1, 1, 0], [0, 1, 0, 1]])
masks = pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "masked"])


def maps(seed, heads=H):
    exponentials = np.exp(np.random.default_rng(seed).normal(size=(B, heads, L, L)))
    return exponentials / exponentials.sum(-1, keepdims=True)


def kept(mask):
    """The kept positions of each row."""
    return [[i for i in range(L) if mask is None or mask[b, i]] for b in range(B)]


def value(loss, student, teacher, mask, **settings):
    mask = None if mask is None else torch.from_numpy(mask)
    return loss(torch.from_numpy(student), torch.from_numpy(teacher), mask, **settings).value.item()


def squares(student, teacher, mask):
    return [
        (student[b, ..., i, j] - teacher[b, ..., i, j]) ** 2 for b, r in enumerate(kept(mask)) for i in r for j in r
    ]


def cross_entropies(student, teacher, mask):
    """One for each head and kept query, over the kept keys alone."""
    for b, row in enumerate(kept(mask)):
        for h in range(student.shape[1]):
            for i in row:
                p, q = (x[b, h, i, row] / x[b, h, i, row].sum() for x in (teacher, student))
                yield -(p * np.log(q)).sum()


@masks
def test_attention_mse_is_a_mean_over_heads_and_pairs(mask):
    student, teacher = maps(0), maps(1)
    assert value(attention_mse, student, teacher, mask) == pytest.approx(np.mean(squares(student, teacher, mask)))


@masks
def test_attention_mse_sum_is_a_mean_over_pairs_of_sums_over_heads(mask):
    student, teacher = maps(0), maps(1, heads=5)
    sums = student.sum(1), teacher.sum(1)
    expected = pytest.approx(np.mean(squares(*sums, mask)))
    assert value(attention_mse_sum, student, teacher, mask) == expected
    assert value(attention_mse_sum, *sums, mask) == expected


@masks
def test_attention_ce_is_a_mean_over_heads_and_queries(mask):
    student, teacher = maps(0), maps(1)
    expected = np.mean(list(cross_entropies(student, teacher, mask)))
    assert value(attention_ce, student, teacher, mask) == pytest.approx(expected, rel=1e-12)


@masks
def test_attention_ce_mean_is_that_of_the_mean_head(mask):
    student, teacher = maps(0), maps(1, heads=5)
    means = student.mean(1, keepdims=True), teacher.mean(1, keepdims=True)
    expected = pytest.approx(np.mean(list(cross_entropies(*means, mask))), rel=1e-12)
    assert value(attention_ce_mean, student, teacher, mask) == expected
    assert value(attention_ce_mean, means[0][:, 0], means[1][:, 0], mask) == expected


@pytest.mark.parametrize("loss", [attention_ce, attention_ce_mean])
@masks
def test_the_cross_entropy_is_least_for_the_teachers_own_map(loss, mask):
    teacher = torch.from_numpy(maps(1)).requires_grad_()
    mask = None if mask is None else torch.from_numpy(mask)
    (gradient,) = torch.autograd.grad(loss(teacher, teacher.detach(), mask).value, teacher)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)


@pytest.mark.parametrize("loss", [attention_ce, attention_ce_mean])
def test_scores_and_their_softmax_are_the_same_to_the_cross_entropy(loss):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(B, 1, L, L, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = torch.from_numpy(MASK)
    student, teacher = (
        x.masked_fill(mask[:, None, None] == 0, -torch.inf).requires_grad_() for x in (student, teacher)
    )
    of_maps = loss(student.softmax(-1), teacher.softmax(-1), mask).value
    of_scores = loss(student, teacher, mask, from_scores=True).value
    torch.testing.assert_close(of_scores, of_maps)
    (expected,), (actual,) = (torch.autograd.grad(x, student) for x in (of_maps, of_scores))
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("loss", [attention_ce, attention_ce_mean])
def test_weights_that_dropout_removed_are_finite_and_have_no_gradient(loss, dtype):
    teacher = torch.from_numpy(maps(1)).to(dtype)
    student = torch.from_numpy(maps(0)).to(dtype)
    student[..., 1] = 0
    student[:, :, 2] = 0  # a query whose keys have all gone
    student[:, :, 3, 0] = torch.finfo(dtype).tiny * torch.finfo(dtype).eps  # the smallest number there is
    student.requires_grad_()
    value = loss(student, teacher).value
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    assert not student.grad[:, :, 2].any()


@masks
def test_clipping_is_for_scores_without_a_mask(mask):
    student, teacher = maps(0), maps(1)
    for loss in (attention_mse, attention_mse_sum, attention_ce, attention_ce_mean):
        assert value(loss, student, teacher, mask, clip_negative=True) == value(loss, student, teacher, mask)
    changed = value(attention_mse, student - 0.3, teacher - 0.2, mask, clip_negative=True)
    assert (changed == value(attention_mse, student - 0.3, teacher - 0.2, mask)) is (mask is not None)


def test_what_is_not_attention_is_refused():
    x = torch.ones(B, H, L, L)
    for loss in (attention_mse, attention_ce):
        with pytest.raises(AssertionError, match=r"not \(2, 4, 4\)"):
            loss(x[:, 0], x[:, 0])
        with pytest.raises(AssertionError, match="a student of 3 heads, a teacher of 2"):
            loss(x, x[:, :2])
    for loss in (attention_mse_sum, attention_ce_mean):
        with pytest.raises(AssertionError, match=r"not \(4, 4\)"):
            loss(x[0, 0], x[0, 0])
        with pytest.raises(AssertionError, match=r"a teacher's of shape \(2, 1, 2, 2\)"):
            loss(x, x[..., :2, :2])
