"""Losses over a large vocabulary: in chunks they are what they are over all logits at once, and so are their gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from kdspec.ops.divergence import cross_entropy, cross_entropy_soft, kl
from kdspec.ops.vocabulary import BUDGET, COPIES, chunk_size, summed_over_chunks

POSITIONS, WIDTH, CLASSES = 11, 5, 17


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def made(dtype=torch.float64, *, bias=True):
    parts = [draw(POSITIONS, WIDTH, dtype=dtype), draw(CLASSES, WIDTH, seed=1, dtype=dtype)]
    parts.append(draw(CLASSES, seed=2, dtype=dtype)) if bias else None
    return [part.requires_grad_() for part in parts]


def teacher(dtype=torch.float64):
    return draw(POSITIONS, CLASSES, seed=3, dtype=dtype)


LABELS = torch.tensor([3, -100, 5, 0, -100, 16, 2, 2, -100, 9, 1])
LOSSES = {
    "kl": lambda rows, logits: kl(logits, teacher()[rows].to(logits.dtype), 2.0).total,
    "ce": lambda rows, logits: cross_entropy_soft(logits, teacher()[rows].to(logits.dtype), 8.0).total,
    "labels": lambda rows, logits: cross_entropy(logits, LABELS[rows]).total,
    "a temperature for each position": lambda rows, logits: (
        kl(logits, teacher()[rows].to(logits.dtype), torch.linspace(1, 3, POSITIONS)[rows]).total
    ),
}


def cap(logits):
    return 3 * torch.tanh(logits / 3)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("size", [1, 4, 11, 100])
@pytest.mark.parametrize("post", [None, cap])
@pytest.mark.parametrize("bias", [True, False])
def test_chunks_give_the_value_and_gradient_of_all_logits_at_once(loss, size, post, bias):
    inputs = made(bias=bias)
    logits = functional.linear(*inputs)
    whole = loss(slice(None), logits if post is None else post(logits))
    parts = summed_over_chunks(loss, *inputs, post=post, size=size)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)
    upstream = torch.tensor(0.37, dtype=torch.float64)
    for one, other in zip(*(torch.autograd.grad(v, inputs, upstream) for v in (parts, whole)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_the_gradient_is_that_of_the_value(loss):
    inputs = made()
    assert torch.autograd.gradcheck(lambda *given: summed_over_chunks(loss, *given, size=4), inputs)


def test_the_gradient_can_be_taken_once():
    inputs = made()
    total = summed_over_chunks(LOSSES["kl"], *inputs)
    (first,) = torch.autograd.grad(total, inputs[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        first.sum().backward()


def test_parameters_of_the_loss_have_a_gradient():
    inputs, weights = made(), draw(CLASSES, seed=4).requires_grad_()

    def loss(rows, logits):
        return (weights * (logits - teacher()[rows]).square()).sum()

    whole = loss(slice(None), functional.linear(*inputs))
    parts = summed_over_chunks(loss, *inputs, parameters=[weights], size=3)
    for one, other in zip(*(torch.autograd.grad(v, [*inputs, weights]) for v in (parts, whole)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_what_is_frozen_gets_no_gradient_and_the_others_get_theirs(frozen):
    inputs = made()
    inputs[frozen].requires_grad_(requires_grad=False)
    summed_over_chunks(LOSSES["kl"], *inputs, size=4).backward()
    assert [each.grad is None for each in inputs] == [number == frozen for number in range(3)]


def test_without_a_gradient_nothing_is_kept():
    with torch.no_grad():
        total = summed_over_chunks(LOSSES["kl"], *made(), size=4)
    assert not total.requires_grad
    torch.testing.assert_close(total, LOSSES["kl"](slice(None), functional.linear(*made())).detach())


def test_no_position_gives_0_with_a_gradient_of_zeros():
    hidden, weight, bias = made()
    total = summed_over_chunks(LOSSES["kl"], hidden[:0], weight, bias)
    total.backward()
    assert total == 0
    assert not weight.grad.any()


def test_a_tied_weight_gets_the_gradients_of_both_uses():
    table, ids = nn.Parameter(draw(CLASSES, WIDTH)), torch.arange(POSITIONS)

    def gradient(total):
        table.grad = None
        total.backward()
        return table.grad.clone()

    whole = gradient(LOSSES["kl"](slice(None), functional.linear(table[ids], table)))
    parts = gradient(summed_over_chunks(LOSSES["kl"], table[ids], table, size=4))
    torch.testing.assert_close(parts, whole)


def test_narrow_types_are_added_up_in_float32():
    wide, narrow = made(torch.float32), [each.detach().bfloat16().requires_grad_() for each in made(torch.float32)]
    reference = summed_over_chunks(LOSSES["kl"], *wide)
    total = summed_over_chunks(LOSSES["kl"], *narrow, size=2)
    assert total.dtype is torch.float32
    reference.backward()
    total.backward()
    for one, other in zip(narrow, wide, strict=True):
        assert one.grad.dtype is torch.bfloat16
        cosine = functional.cosine_similarity(one.grad.float().flatten(), other.grad.flatten(), dim=0)
        assert cosine > 0.999


def test_under_autocast_the_product_is_narrow_and_the_gradients_are_not():
    inputs = made(torch.float32)
    seen = []

    def loss(rows, logits):
        seen.append(logits.dtype)
        return LOSSES["kl"](rows, logits)

    with torch.autocast("cpu", torch.bfloat16):
        total = summed_over_chunks(loss, *inputs, size=4)
    total.backward()
    assert set(seen) == {torch.bfloat16}
    assert {each.grad.dtype for each in inputs} == {torch.float32}


def test_a_chunk_stays_within_its_budget():
    assert chunk_size(100, 1000) == 100
    size = chunk_size(10**6, 250_000)
    assert size * 250_000 * COPIES * 4 <= BUDGET < (size + 1) * 250_000 * COPIES * 4
    assert chunk_size(10**6, 10**9) == 16
    assert chunk_size(0, 10) == 1
