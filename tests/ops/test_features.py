"""Losses between hidden states, against loops over plain numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdspec.ops.features import cosine, fsp, hidden_mse, mmd, pkd

B, L = 3, 4
MASK = np.array([[1, 1, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]])
masks = pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "masked"])


def hidden(width, seed):
    return np.random.default_rng(seed).normal(size=(B, L, width))


def kept(mask):
    """The kept positions of each row."""
    return [[i for i in range(L) if mask is None or mask[b, i]] for b in range(B)]


def value(loss, student, teacher, mask, **settings):
    def tensors(x):
        return tuple(map(torch.from_numpy, x)) if isinstance(x, tuple) else torch.from_numpy(x)

    mask = None if mask is None else torch.from_numpy(mask)
    return loss(tensors(student), tensors(teacher), mask, **settings).value.item()


def cos(s, t):
    return s @ t / np.sqrt(s @ s) / np.sqrt(t @ t)


@masks
def test_hidden_mse_is_a_mean_over_tokens_and_width(mask):
    student, teacher = hidden(5, 0), hidden(5, 1)
    parts = [((student[b, i] - teacher[b, i]) ** 2).mean() for b, row in enumerate(kept(mask)) for i in row]
    assert value(hidden_mse, student, teacher, mask) == pytest.approx(np.mean(parts), rel=1e-12)


@masks
def test_cosine_is_a_mean_over_tokens(mask):
    student, teacher = hidden(5, 0), hidden(5, 1)
    parts = [1 - cos(student[b, i], teacher[b, i]) for b, row in enumerate(kept(mask)) for i in row]
    assert value(cosine, student, teacher, mask) == pytest.approx(np.mean(parts), rel=1e-10)


@masks
def test_pkd_compares_the_first_kept_token_of_each_row(mask):
    student, teacher = hidden(5, 0), hidden(5, 1)
    parts = [2 - 2 * cos(student[b, row[0]], teacher[b, row[0]]) for b, row in enumerate(kept(mask))]
    assert value(pkd, student, teacher, mask) == pytest.approx(np.mean(parts), rel=1e-10)


def test_the_mean_over_the_width_is_pkd_divided_by_it():
    student, teacher = hidden(5, 0), hidden(5, 1)
    summed, mean = value(pkd, student, teacher, MASK), value(pkd, student, teacher, MASK, reduction="mean")
    assert mean == pytest.approx(summed / 5, rel=1e-12)


def test_pkd_takes_the_tokens_themselves():
    student, teacher = hidden(5, 0), hidden(5, 1)
    whole = value(pkd, student, teacher, None)
    assert value(pkd, student[:, 0], teacher[:, 0], None) == whole
    assert value(pkd, student[:, 0], teacher[:, 0], MASK) == whole


@masks
def test_fsp_is_a_mean_over_rows_of_the_flow_between_two_layers(mask):
    student, teacher = (hidden(5, 0), hidden(6, 1)), (hidden(5, 2), hidden(6, 3))
    parts = []
    for b, row in enumerate(kept(mask)):
        flows = [sum(np.outer(x[b, i], y[b, i]) for i in row) / len(row) for x, y in (student, teacher)]
        parts.append(((flows[0] - flows[1]) ** 2).mean())
    assert value(fsp, student, teacher, mask) == pytest.approx(np.mean(parts), rel=1e-10)


@masks
@pytest.mark.parametrize("scale", ["width", "length"])
def test_mmd_is_a_mean_over_pairs_of_tokens_of_one_row(mask, scale):
    student, teacher = (hidden(5, 0), hidden(5, 1)), (hidden(8, 2), hidden(8, 3))
    parts = []
    for b, row in enumerate(kept(mask)):
        for i in row:
            for j in row:
                grams = [
                    x[b, i] @ y[b, j] / (L if scale == "length" and mask is not None else x.shape[-1])
                    for x, y in (student, teacher)
                ]
                parts.append((grams[0] - grams[1]) ** 2)
    assert value(mmd, student, teacher, mask, scale=scale) == pytest.approx(np.mean(parts), rel=1e-10)


@pytest.mark.parametrize("loss", [hidden_mse, cosine, pkd])
@masks
def test_equal_features_cost_nothing(loss, mask):
    student = hidden(5, 0)
    assert value(loss, student, student, mask) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("loss", [fsp, mmd])
@masks
def test_equal_pairs_cost_nothing(loss, mask):
    student = hidden(5, 0), hidden(5, 1)
    assert value(loss, student, student, mask) == 0


@pytest.mark.parametrize(("loss", "expected"), [(cosine, 1.0), (pkd, 1.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_vector_of_zeros_has_no_direction(loss, expected, dtype):
    student, teacher = torch.zeros(2, 3, 4, dtype=dtype, requires_grad=True), torch.ones(2, 3, 4, dtype=dtype)
    loss(student, teacher).value.backward()
    torch.testing.assert_close(loss(student, teacher).value, torch.tensor(expected, dtype=dtype))
    assert student.grad.isfinite().all()


def test_lengths_of_student_and_teacher_that_differ_are_refused():
    x, y = torch.ones(2, 3, 4), torch.ones(2, 5, 4)
    for loss, student, teacher in ((hidden_mse, x, y), (cosine, x, y), (mmd, (x, x), (y, y))):
        with pytest.raises(AssertionError, match="a teacher's of shape"):
            loss(student, teacher)


def test_widths_that_differ_are_refused_where_a_projection_is_needed():
    x, y = torch.ones(2, 3, 4), torch.ones(2, 3, 5)
    for loss, student, teacher in ((hidden_mse, x, y), (cosine, x, y), (pkd, x, y), (fsp, (x, x), (y, y))):
        with pytest.raises(AssertionError, match="a teacher's of shape"):
            loss(student, teacher)
