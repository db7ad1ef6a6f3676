"""The last layer of classifiers, found by trying; a scale and a bias multiplied into it."""

from __future__ import annotations

import pytest
import torch
from tiny_families import classifier
from torch import nn

from kdspec.engine.forward.last_layer import NO_BIAS, LastLayer, Scaling, last_layer

ROWS = torch.tensor([[1, 5, 9, 2], [1, 7, 4, 2]])
FAMILIES = {
    "bert": "classifier", "roberta": "classifier.out_proj", "distilbert": "classifier", "electra": "classifier.out_proj",
    "modernbert": "classifier", "xlnet": "logits_proj", "deberta-v2": "classifier", "gpt2": "score",
}  # fmt: skip


def logits_of(module, *inputs):
    def logits():
        with torch.no_grad():
            found = module(*inputs)
        return found if isinstance(found, torch.Tensor) else found.logits

    return logits


@pytest.mark.parametrize(("family", "path"), FAMILIES.items())
def test_classifiers_of_the_library_have_one(family, path, tmp_path):
    changes = {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2} if family in ("gpt2", "modernbert") else {}
    module = classifier(family, tmp_path / "model", **changes)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    logits = logits_of(module, ROWS)
    found = last_layer(module, logits, with_bias=False)
    assert isinstance(found, LastLayer), found
    assert found.layer is module.get_submodule(path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    plain = logits()
    found.fold(Scaling(torch.tensor(1 / 1.83)))
    assert torch.allclose(logits(), plain / 1.83, atol=1e-6)
    assert isinstance(last_layer(module, logits, with_bias=True), LastLayer) == (found.layer.bias is not None)


def test_a_scale_and_a_bias_of_each_class_are_multiplied_in():
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3))
    logits = logits_of(module, torch.randn(5, 4))
    found = last_layer(module, logits, with_bias=True)
    assert isinstance(found, LastLayer)
    assert found.layer is module[2]
    plain = logits()
    scaling = Scaling(torch.tensor([0.5, 2, -1]), torch.tensor([1.0, 0, -1]))
    found.fold(scaling)
    assert torch.allclose(logits(), plain * torch.tensor([0.5, 2, -1]) + torch.tensor([1.0, 0, -1]), atol=1e-6)
    assert torch.allclose(scaling.undone(logits()), plain, atol=1e-6)
    assert torch.allclose(scaling.of(plain), logits(), atol=1e-6)


class Normed(nn.Linear):
    """A layer that does more than a product."""

    def forward(self, inputs):
        return super().forward(inputs).softmax(-1)


class Twice(nn.Module):
    """A layer that is used in two places: scaled, it would scale twice."""

    def __init__(self):
        super().__init__()
        self.same, self.other = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, rows):
        return self.same(self.same(rows).tanh())


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 3)
        self.last.weight = self.first.weight

    def forward(self, rows):
        return self.last(self.first(rows).detach())


@pytest.mark.parametrize(
    "module", [Normed(3, 2), Twice(), Tied(), nn.Sequential(nn.Linear(3, 2), nn.Tanh()), nn.Identity()]
)
def test_other_models_have_none(module):
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    found = last_layer(module, logits_of(module, torch.randn(4, 3)), with_bias=False)
    assert found == "its logits are not the outputs of a linear layer of its own"
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_a_layer_without_a_bias_has_a_scale():
    module = nn.Linear(3, 2, bias=False)
    logits = logits_of(module, torch.randn(4, 3))
    assert isinstance(last_layer(module, logits, with_bias=False), LastLayer)
    assert last_layer(module, logits, with_bias=True) == NO_BIAS
