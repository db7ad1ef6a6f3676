"""Relations against a reference in plain Python, and what masks, widths and heads do."""

from __future__ import annotations

import math

import pytest
import torch

from kdspec.ops.attention import attention_ce
from kdspec.ops.relations import relation


def vectors(seed, width=6, batch=2, length=4):
    return torch.randn(batch, length, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(scores):
    exponentials = [math.exp(score - max(scores)) for score in scores]
    return [x / sum(exponentials) for x in exponentials]


def rows(first, second, kept, heads):
    """The relation of one row of the batch by head and query, over the kept tokens, from lists of numbers."""
    width = len(first[0]) // heads
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        for q in kept:
            scores = [
                sum(a * b for a, b in zip(first[q][part], second[k][part], strict=True)) / math.sqrt(width)
                for k in kept
            ]
            yield softmax(scores)


def reference(student, teacher, mask, heads):
    total, queries = 0.0, 0
    for row in range(len(mask)):
        kept = [i for i, keep in enumerate(mask[row]) if keep]
        queries += len(kept)
        sides = [rows(x[row].tolist(), y[row].tolist(), kept, heads) for x, y in (student, teacher)]
        for q, p in zip(*sides, strict=True):
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / heads / queries


MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])


@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "masked"])
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_it_is_the_divergence_of_scaled_products(heads, mask):
    student, teacher = (vectors(0), vectors(1)), (vectors(2, 12), vectors(3, 12))
    found = relation(student, teacher, mask, heads=heads).value.item()
    kept = torch.ones(2, 4).tolist() if mask is None else mask.tolist()
    assert found == pytest.approx(reference(student, teacher, kept, heads), rel=1e-12)


def test_of_queries_and_keys_it_has_the_gradient_of_attention_transfer():
    """MiniLM's other loss: the cross-entropy of attention, which differs by the teacher's entropy."""
    query, key, teacher = vectors(0).requires_grad_(), vectors(1), (vectors(2), vectors(3))

    def attention(first, second):
        q, k = (x.unflatten(-1, (2, 3)).transpose(1, 2) for x in (first, second))
        return (q @ k.mT / 3**0.5).softmax(-1)

    (mine,) = torch.autograd.grad(relation((query, key), teacher, heads=2).value, query)
    (other,) = torch.autograd.grad(attention_ce(attention(query, key), attention(*teacher)).value, query)
    torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("garbage", [1e4, math.inf, math.nan])
def test_what_is_in_the_padding_does_not_matter(garbage):
    student, teacher = vectors(0).requires_grad_(), vectors(1)
    bad = [torch.where(MASK[..., None] != 0, x.detach(), garbage).requires_grad_() for x in (student, teacher)]
    found = [relation((s, s), (t, t), MASK, heads=2).value for s, t in ((student, teacher), bad)]
    gradients = [torch.autograd.grad(value, s)[0] for value, s in zip(found, (student, bad[0]), strict=True)]
    assert found[0].item() == found[1].item()
    assert torch.equal(*gradients)


def test_a_row_of_which_nothing_is_kept_contributes_nothing():
    student = vectors(0).requires_grad_()
    teacher = (vectors(1), vectors(1))
    mask = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1]])
    value = relation((student, student), teacher, mask, heads=2)
    value.value.backward()
    assert value.count == 4
    assert student.grad[0].abs().sum() == 0
    assert student.grad.isfinite().all()


def test_heads_that_do_not_divide_the_width_are_a_programmers_mistake():
    with pytest.raises(AssertionError, match="a width of 6 cannot be split into 4 heads"):
        relation((vectors(0), vectors(0)), (vectors(1), vectors(1)), heads=4)
