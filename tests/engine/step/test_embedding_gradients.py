"""Gradients of embeddings that are added where they are kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdspec.engine.step import embedding_gradients
from kdspec.engine.step.embedding_gradients import InPlace

IDS = (torch.tensor([[1, 2, 1, 0], [3, 1, 0, 0]]), torch.tensor([[4, 1]]))


class Tied(nn.Module):
    """An embedding with weights that are tied to a later layer."""

    def __init__(self, **options):
        super().__init__()
        self.embedding = nn.Embedding(6, 3, dtype=torch.float64, **options)

    def forward(self, ids):
        return nn.functional.linear(self.embedding(ids).tanh(), self.embedding.weight)


@pytest.fixture(autouse=True)
def every_embedding_is_large(monkeypatch):
    monkeypatch.setattr(embedding_gradients, "LEAST", 1)


def gradient(module, ids=IDS):
    module.zero_grad()
    for each in ids:
        module(each).pow(2).sum().backward()
    return module.embedding.weight.grad


@pytest.mark.parametrize("options", [{}, {"padding_idx": 0}])
@pytest.mark.parametrize("ids", [IDS, IDS[:1]], ids=["two micro-batches", "one"])
def test_the_gradient_is_that_of_autograd(options, ids):
    torch.manual_seed(0)
    module = Tied(**options)
    expected = gradient(module, ids).clone()
    with InPlace(module):
        found = gradient(module, ids)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_one_micro_batch_has_the_same_bits():
    torch.manual_seed(0)
    module = nn.Embedding(6, 3, padding_idx=0)
    module(IDS[0]).sin().sum().backward()
    expected, module.weight.grad = module.weight.grad, None
    with InPlace(module):
        module(IDS[0]).sin().sum().backward()
    assert torch.equal(module.weight.grad, expected)


def test_autograd_makes_no_gradient_of_the_table():
    module = nn.Embedding(6, 3)
    with InPlace(module):
        (found,) = torch.autograd.grad(module(IDS[0]).sum(), [module.weight], allow_unused=True)
    assert found is None
    assert module.weight.grad is not None
    (found,) = torch.autograd.grad(module(IDS[0]).sum(), [module.weight])
    assert found is not None


def test_frozen_embeddings_are_left_alone():
    module = nn.Embedding(6, 3).requires_grad_(requires_grad=False)
    with InPlace(module):
        assert not module(IDS[0]).requires_grad
        module.requires_grad_(requires_grad=True)
        with torch.no_grad():
            assert not module(IDS[0]).requires_grad


@pytest.mark.parametrize("options", [{"sparse": True}, {"scale_grad_by_freq": True}, {"max_norm": 1.0}])
def test_an_embedding_with_a_gradient_of_its_own_kind_keeps_it(options):
    module = nn.Embedding(6, 3, **options)
    with InPlace(module):
        module(IDS[0]).sum().backward()
    assert module.weight.grad.is_sparse == options.get("sparse", False)
    assert not module._forward_hooks


def test_small_tables_keep_the_ordinary_way(monkeypatch):
    monkeypatch.setattr(embedding_gradients, "LEAST", 2**20)
    module = nn.Embedding(6, 3)
    with InPlace(module):
        assert not module._forward_hooks


class TestKept:
    """A gradient that is used again in the next step, when only its rows are set to 0."""

    STEPS = (IDS, (torch.tensor([[5, 1]]),), (torch.tensor([[0, 0]]), torch.tensor([[2, 3]])))

    @staticmethod
    def gradients(module, context):
        """Of each step a copy, clipped as an optimizer's step has it; and where it lies."""
        found, places = [], []
        with context:
            for step in TestKept.STEPS:
                for ids in step:
                    module(ids).sin().sum().backward()
                nn.utils.clip_grad_norm_(module.parameters(), 0.1)
                weight = next(module.parameters())
                found.append(weight.grad.clone())
                places.append(weight.grad.data_ptr())
                module.zero_grad(set_to_none=True)
        return found, places

    @pytest.mark.parametrize("make", [lambda: nn.Embedding(6, 3, dtype=torch.float64), Tied])
    def test_each_step_has_the_gradient_that_it_would_have(self, make):
        torch.manual_seed(0)
        module = make()
        expected, _ = self.gradients(module, InPlace(module))
        found, _ = self.gradients(module, InPlace(module, keep=True))
        assert all(map(torch.equal, found, expected))

    def test_it_lies_where_it_lay(self):
        module = nn.Embedding(6, 3)
        assert len(set(self.gradients(module, InPlace(module, keep=True))[1])) == 1

    def test_one_that_autograd_adds_to_is_not_kept(self):
        module = Tied()
        context = InPlace(module, keep=True)
        self.gradients(module, context)
        (table,) = context._tables.values()
        assert not table.keep

    def test_what_begins_to_learn_later_is_not_kept(self):
        module = nn.Embedding(6, 3).requires_grad_(requires_grad=False)
        context = InPlace(module, keep=True)
        with context:
            module.requires_grad_(requires_grad=True)
            module(IDS[0]).sum().backward()
        (table,) = context._tables.values()
        assert not table.keep
        assert module.weight.grad.any()
