"""Features are taken where they come up in a model, and what comes after them is not computed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdspec.engine.forward.forward_hooks import HookPoint, HookSet, Trace


class Net(nn.Module):
    """Two layers that share their weights, a head, and a list of what was called."""

    def __init__(self):
        super().__init__()
        self.embed, self.shared, self.head = nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 1)
        self.called = []
        for name, module in self.named_children():
            module.register_forward_hook(lambda *_, name=name: self.called.append(name))

    def forward(self, x):
        states = [self.embed(x)]
        states.append(self.shared(states[0]))
        states.append(self.shared(states[1]))
        return {"hidden": tuple(states), "logits": self.head(states[2]), "half": states[1][:1]}


def traced(net, x):
    trace = Trace()
    with trace.of(net), torch.no_grad():
        return trace, net(x)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


X = torch.randn(2, 2)


def test_calls_of_a_layer_are_distinguished(net):
    trace, output = traced(net, X)
    assert trace.hook_set(output["hidden"]) == (
        HookPoint("embed", 0, "output"),
        HookPoint("shared", 0, "output"),
        HookPoint("shared", 1, "output"),
    )


def test_the_forward_pass_ends_when_everything_is_there(net):
    trace, output = traced(net, X)
    wanted = {"hidden": trace.hook_set({1: output["hidden"][1]})}
    net.called.clear()
    returned, found = HookSet(net, wanted, stops=True).run(lambda: net(X))
    assert returned is None
    assert net.called == ["embed", "shared"]
    assert torch.equal(found["hidden"][1], output["hidden"][1])
    assert trace.last([wanted["hidden"][1]]) == wanted["hidden"][1]
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_features_of_the_last_layer_do_not_stop_the_forward_pass_early(net):
    trace, output = traced(net, X)
    assert trace.last([trace.hook_set(output["logits"])]) is None


def test_a_value_computed_from_an_output_has_no_hook_point(net):
    trace, output = traced(net, X)
    with pytest.raises(LookupError):
        trace.hook_set(output["hidden"][1][:1])


def test_a_tensor_that_is_changed_in_place_is_not_taken_before_that(net):
    net.shared.register_forward_hook(lambda module, args, output: args[0].mul_(2))
    trace, output = traced(net, X)
    with pytest.raises(LookupError, match="in place"):
        trace.hook_set(output["hidden"][0])


def test_a_module_that_is_not_called_gives_no_features(net):
    trace, output = traced(net, X)
    hook_set = HookSet(net, {"hidden": trace.hook_set(output["hidden"])}, stops=True)
    returned, found = hook_set.run(lambda: net.embed(X))
    assert found is None
    assert returned is not None


@pytest.mark.parametrize(
    ("module", "layer"),
    [
        ("bert.encoder.layer.8.output.LayerNorm", "bert.encoder.layer.8"),
        ("model.layers.11", "model.layers.11"),
        ("bert.embeddings.LayerNorm", "bert.embeddings.LayerNorm"),
        ("0", "0"),
    ],
)
def test_the_layer_of_a_module(module, layer):
    assert HookPoint(module, 0, "output").layer == layer
