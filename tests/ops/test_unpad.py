"""Tokens that count, taken out of layers."""

from __future__ import annotations

import torch

from kdspec.ops.unpad import SMALL, Packing

MASK = torch.tensor([[1, 1, 0], [0, 0, 0], [0, 1, 1]])


def test_tokens_come_row_after_row_and_once():
    layer = torch.arange(27.0).reshape(3, 3, 3)
    packing = Packing(MASK)
    assert torch.equal(packing.of(layer), layer[MASK.bool()])
    assert packing.of(layer) is packing.of(layer)
    assert packing.lengths == [2, 0, 2]


def test_a_batch_without_padding_is_not_copied():
    layer = torch.zeros(3, 3, 2)
    assert Packing(torch.ones(3, 3)).of(layer).data_ptr() == layer.data_ptr()


def test_the_gradient_of_padding_is_zero():
    layer = torch.ones(3, 3, 2, requires_grad=True)
    Packing(MASK).of(layer).sum().backward()
    assert torch.equal(layer.grad, MASK[..., None].expand(3, 3, 2).float())


def test_small_layers_and_those_of_other_shapes_are_left_alone():
    packing = Packing(torch.ones(2, 128))
    assert packing.suits(torch.empty(2, 128, SMALL // 256))
    assert not packing.suits(torch.empty(2, 128, SMALL // 256 - 1))
    assert not packing.suits(torch.empty(2, 8, 128, 128))
    assert not packing.suits(torch.empty(2, 127, SMALL))


def test_without_contents_nothing_is_counted():
    assert Packing.by(MASK.to("meta")) is None
    assert Packing.by(None) is None
