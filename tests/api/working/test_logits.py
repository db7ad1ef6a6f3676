"""Logits as a value: a tensor, a head that is not applied yet, and the largest with the rest as one outcome."""

from __future__ import annotations

import pytest
import torch

from kdspec import DenseLogits, Fault, Features, HeadLogits, HeadPost, Mean, TopKLogits

ROWS, LENGTH, WIDTH, CLASSES = 2, 3, 4, 7
MASK = torch.tensor([[1, 0, 1], [1, 1, 0]])


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def largest(logits, k, *temperatures):
    values, ids = logits.topk(k)
    others = logits.scatter(-1, ids, -torch.inf)
    return TopKLogits(ids, values, {t: (others / t).logsumexp(-1) for t in temperatures}, logits.shape[-1])


def head(post=None, *, bias=True):
    hidden, weight = draw(ROWS, LENGTH, WIDTH), draw(CLASSES, WIDTH, seed=1)
    return HeadLogits(hidden, weight, draw(CLASSES, seed=2) if bias else None, post or HeadPost())


KINDS = {
    "dense": DenseLogits(draw(ROWS, LENGTH, CLASSES)),
    "head": head(),
    "top_k": largest(draw(ROWS, LENGTH, CLASSES), 3, 1.0, 2.0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_shape_and_classes(kind):
    logits = KINDS[kind]
    assert (tuple(logits.shape), logits.positions, logits.classes) == ((ROWS, LENGTH), 6, CLASSES)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_selects_positions_in_row_major_order(kind):
    selected = KINDS[kind].select(MASK)
    assert tuple(selected.shape) == (4,)
    for one, other in zip(selected.tensors, KINDS[kind].tensors, strict=True):
        if other.shape[:2] == MASK.shape:
            assert torch.equal(one, other[MASK != 0])
        else:
            assert one is other


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 4, 6, 100])
def test_chunks_are_all_positions_in_their_order(kind, size):
    chunks = list(KINDS[kind].chunks(size))
    assert [chunk.positions for chunk in chunks] == [min(size, 6 - start) for start in range(0, 6, size)]
    whole = KINDS[kind].tensors[0].flatten(end_dim=1)
    assert torch.equal(torch.cat([chunk.tensors[0] for chunk in chunks]), whole)


def test_dense_logits_are_the_tensor_itself():
    tensor = draw(2, 3)
    assert DenseLogits(tensor).dense() is tensor


@pytest.mark.parametrize("bias", [True, False])
def test_head_logits_equal_the_linear_layer(bias):
    logits = head(bias=bias)
    expected = logits.hidden @ logits.weight.T + (logits.bias if bias else 0)
    torch.testing.assert_close(logits.dense(), expected)


def test_a_head_scales_and_caps_its_logits():
    post = HeadPost(scale=0.5, soft_cap=3.0)
    plain, capped = head().dense(), head(post).dense()
    torch.testing.assert_close(capped, 3 * torch.tanh(plain / 2 / 3))
    logits = draw(5).requires_grad_()
    assert torch.autograd.gradcheck(post, (logits,))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_rest_is_one_more_outcome_with_the_probability_of_all_that_is_not_listed(temperature):
    logits = draw(5, CLASSES)
    kept = largest(logits, 3, 1.0, 2.0)
    whole = (logits / temperature).softmax(-1)
    listed = whole.gather(-1, kept.ids)
    expected = torch.cat([listed, 1 - listed.sum(-1, keepdim=True)], -1)
    torch.testing.assert_close(kept.log_probabilities(temperature).exp(), expected)
    torch.testing.assert_close(kept.log_outcomes(logits, temperature).exp(), expected)


def test_logits_up_to_a_constant_a_position_are_the_same():
    logits = draw(5, CLASSES)
    moved = largest(logits + draw(5, 1, seed=3), 3, 2.0)
    torch.testing.assert_close(moved.log_probabilities(2.0), largest(logits, 3, 2.0).log_probabilities(2.0))


def test_a_temperature_at_which_the_rest_is_not_known_is_refused():
    with pytest.raises(Fault, match="not known at the temperature 4") as caught:
        largest(draw(5, CLASSES), 3, 1.0, 2.5).log_probabilities(4.0)
    assert (caught.value.code, caught.value.notes) == ("KD315", ("it is known at: 1, 2.5",))


def test_the_largest_logits_are_never_spread_over_the_vocabulary():
    with pytest.raises(Fault, match="all 7 logits are needed, and only the largest 3 are known") as caught:
        largest(draw(5, CLASSES), 3, 1.0).dense()
    assert caught.value.code == "KD315"


def test_a_top_k_of_all_classes_has_no_rest_and_a_finite_gradient():
    logits = draw(2, 3).requires_grad_()
    kept = largest(logits.detach(), 3, 1.0)
    found = kept.log_outcomes(logits, 1.0)
    assert found.shape == kept.log_probabilities(1.0).shape == (2, 3)
    found.square().sum().backward()
    assert logits.grad.isfinite().all()


def test_a_student_has_the_gradient_of_its_outcomes():
    kept = largest(draw(3, CLASSES), 2, 2.0)
    assert torch.autograd.gradcheck(lambda z: kept.log_outcomes(z, 2.0), (draw(3, CLASSES, seed=1).requires_grad_(),))


def test_features_hold_logits_as_values_by_head():
    one, two = draw(2, 3), draw(2, 3, seed=1)
    assert Features({"logits": one})["logits"].dense() is one
    several = Features({"logits": [one, two]})
    assert [head.dense() for head in several.logits] == [one, two]
    value = head()
    assert Features({"logits": value}).logits == (value,)
    assert Features({"labels": one}).logits == ()


def test_a_parameter_that_only_a_chunk_reaches_is_refused():
    factor = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
    logits = HeadLogits(draw(6, WIDTH).requires_grad_(), draw(CLASSES, WIDTH, seed=1))

    def loss(logits, rows):
        return Mean((factor * logits).square().sum(), len(logits), "labels")

    with pytest.raises(Fault, match="would never be trained") as caught:
        logits.mean(loss)
    assert caught.value.code == "KD510"
    total = logits.mean(loss, [factor]).total
    assert torch.autograd.grad(total, factor)[0] != 0
