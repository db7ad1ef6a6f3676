from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.checkpoint import CheckpointStore
from kdspec.engine.run.optimizer_state import flatten, restore

OPTIMIZERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1),
    "momentum": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    "adam": lambda groups: torch.optim.Adam(groups, amsgrad=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.99)),
    "fused": lambda groups: torch.optim.AdamW(groups, lr=0.01, fused=True),
    "tensor lr": lambda groups: torch.optim.AdamW(groups, lr=torch.tensor(0.01), foreach=False),
    # By default torch takes eps from the dtype of whichever parameter is the first of its group.
    "adafactor": lambda groups: torch.optim.Adafactor(groups, lr=0.01, eps=(1e-7, 1e-3)),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, centered=True),
    "lbfgs": lambda groups: torch.optim.LBFGS([p for group in groups for p in group["params"]], max_iter=2),
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.last = nn.Linear(6, 3, dtype=torch.bfloat16)

    def forward(self, x):
        return self.last(self.frozen(self.first(x).tanh()).bfloat16()).float()


def net_of(seed):
    torch.manual_seed(seed)
    return Net()


def groups_of(net, order=1):
    """The parameters in two groups, each and all of them in either order."""
    matrices = [p for p in net.parameters() if p.ndim == 2][::order]
    vectors = [p for p in net.parameters() if p.ndim == 1][::order]
    return [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}][::order]


def names_of(net):
    return {parameter: name for name, parameter in net.named_parameters()}


def train(net, optimizer, first, last):
    for step in range(first, last):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))

        def closure(x=x):
            optimizer.zero_grad()
            loss = net(x).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)


def saved_and_loaded(tmp_path, net, optimizer):
    tensors, scalars = flatten(optimizer, names_of(net))
    store = CheckpointStore(tmp_path)
    store.save(1, {"model": net.state_dict(), "optimizer": tensors}, {"optimizer": scalars})
    loaded = store.load(1)
    return loaded.tensors["model"], loaded.tensors["optimizer"], loaded.meta["optimizer"]


def bits(net):
    return [(name, tensor.view(torch.uint8).tolist()) for name, tensor in net.state_dict().items()]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_training_resumes_bit_for_bit(tmp_path, kind):
    net = net_of(0)
    optimizer = OPTIMIZERS[kind](groups_of(net))
    train(net, optimizer, 0, 3)
    model, tensors, scalars = saved_and_loaded(tmp_path, net, optimizer)
    train(net, optimizer, 3, 6)

    other = net_of(1)
    other.load_state_dict(model)
    resumed = OPTIMIZERS[kind](groups_of(other))
    restore(resumed, names_of(other), tensors, scalars)
    train(other, resumed, 3, 6)
    assert bits(other) == bits(net)


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS.keys() - {"lbfgs"}))
def test_the_order_of_parameters_and_groups_does_not_matter(tmp_path, kind):
    net = net_of(0)
    optimizer = OPTIMIZERS[kind](groups_of(net))
    train(net, optimizer, 0, 3)
    model, tensors, scalars = saved_and_loaded(tmp_path, net, optimizer)
    train(net, optimizer, 3, 6)

    other = net_of(1)
    other.load_state_dict(model)
    resumed = OPTIMIZERS[kind](groups_of(other, order=-1))
    restore(resumed, names_of(other), tensors, scalars)
    train(other, resumed, 3, 6)
    assert bits(other) == bits(net)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimizer_that_has_not_stepped_yet_is_restored(tmp_path, kind):
    net = net_of(0)
    optimizer = OPTIMIZERS[kind](groups_of(net))
    _, tensors, scalars = saved_and_loaded(tmp_path, net, optimizer)
    train(net, optimizer, 0, 2)
    other = net_of(0)
    resumed = OPTIMIZERS[kind](groups_of(other))
    restore(resumed, names_of(other), tensors, scalars)
    train(other, resumed, 0, 2)
    assert bits(other) == bits(net)


def test_flattening_changes_nothing():
    net = net_of(0)
    optimizer = OPTIMIZERS["sgd"](groups_of(net))
    flatten(optimizer, names_of(net))
    assert not optimizer.state


def test_options_for_the_implementation_stay_those_of_the_resuming_optimizer(tmp_path):
    net = net_of(0)
    optimizer = OPTIMIZERS["fused"](groups_of(net))
    train(net, optimizer, 0, 1)
    _, tensors, scalars = saved_and_loaded(tmp_path, net, optimizer)
    resumed = OPTIMIZERS["adamw"](groups_of(net))
    restore(resumed, names_of(net), tensors, scalars)
    assert not any(group["fused"] for group in resumed.param_groups)
    train(net, resumed, 1, 2)


def test_options_come_back_with_their_types(tmp_path):
    net = net_of(0)
    optimizer = OPTIMIZERS["adamw"](groups_of(net))
    optimizer.param_groups[0]["lr"] = 0.1 + 0.2
    _, tensors, scalars = saved_and_loaded(tmp_path, net, optimizer)
    resumed = OPTIMIZERS["adamw"](groups_of(net))
    resumed.param_groups[0]["betas"] = (0.0, 0.0)
    restore(resumed, names_of(net), tensors, scalars)
    assert resumed.param_groups[0]["betas"] == (0.8, 0.99)
    assert type(resumed.param_groups[0]["betas"]) is tuple
    assert resumed.param_groups[0]["lr"] == 0.1 + 0.2


def test_an_option_of_a_newer_torch_keeps_its_default(tmp_path):
    net = net_of(0)
    optimizer = OPTIMIZERS["adamw"](groups_of(net))
    _, tensors, scalars = saved_and_loaded(tmp_path, net, optimizer)
    del scalars["groups"][0]["options"]["amsgrad"]
    restore(optimizer, names_of(net), tensors, scalars)
    assert optimizer.param_groups[0]["amsgrad"] is False


def test_state_keeps_its_own_precision(tmp_path):
    """Torch's own loading casts the state to the dtype of the parameter."""
    net = net_of(0)
    optimizer = OPTIMIZERS["adamw"](groups_of(net))
    train(net, optimizer, 0, 1)
    for entries in optimizer.state.values():
        entries["exp_avg"] = entries["exp_avg"].double() / 3
    _, tensors, scalars = saved_and_loaded(tmp_path, net, optimizer)
    resumed = OPTIMIZERS["adamw"](groups_of(net))
    restore(resumed, names_of(net), tensors, scalars)
    for parameter, entries in optimizer.state.items():
        assert resumed.state[parameter]["exp_avg"].dtype == torch.float64
        assert torch.equal(resumed.state[parameter]["exp_avg"], entries["exp_avg"])


def test_the_restored_optimizer_does_not_write_into_the_checkpoint(tmp_path):
    net = net_of(0)
    optimizer = OPTIMIZERS["adamw"](groups_of(net))
    train(net, optimizer, 0, 1)
    _, tensors, scalars = saved_and_loaded(tmp_path, net, optimizer)
    before = copy.deepcopy(tensors)
    restore(optimizer, names_of(net), tensors, scalars)
    train(net, optimizer, 1, 3)
    assert all(torch.equal(tensors[name], before[name]) for name in before)


def test_scalars_are_json(tmp_path):
    net = net_of(0)
    optimizer = OPTIMIZERS["lbfgs"](groups_of(net))
    train(net, optimizer, 0, 2)
    _, scalars = flatten(optimizer, names_of(net))
    assert json.loads(json.dumps(scalars)) == scalars


class TestUnfit:
    @pytest.fixture
    def parts(self):
        net = net_of(0)
        optimizer = OPTIMIZERS["adamw"](groups_of(net))
        train(net, optimizer, 0, 2)
        tensors, scalars = flatten(optimizer, names_of(net))
        return net, optimizer, tensors, json.loads(json.dumps(scalars))

    @staticmethod
    def refused(net, optimizer, tensors, scalars):
        before = flatten(optimizer, names_of(net))[1]
        with pytest.raises(FindingError) as caught:
            restore(optimizer, names_of(net), tensors, scalars)
        assert flatten(optimizer, names_of(net))[1] == before
        (diagnostic,) = caught.value.findings
        assert diagnostic.code == "KD504"
        return diagnostic.message

    def test_a_missing_tensor(self, parts):
        net, optimizer, tensors, scalars = parts
        del tensors["first.weight/exp_avg"]
        assert "lacks the tensor `first.weight/exp_avg`" in self.refused(net, optimizer, tensors, scalars)

    def test_a_tensor_too_many(self, parts):
        net, optimizer, tensors, scalars = parts
        tensors["first.weight/more"] = torch.ones(1)
        assert "`first.weight/more` is in it, but not here" in self.refused(net, optimizer, tensors, scalars)

    def test_a_missing_parameter(self, parts):
        net, optimizer, tensors, scalars = parts
        del scalars["state"]["last.bias"]
        assert "parameter `last.bias` is not in it" in self.refused(net, optimizer, tensors, scalars)

    def test_a_parameter_too_many(self, parts):
        net, optimizer, tensors, scalars = parts
        scalars["state"]["more"] = scalars["state"]["last.bias"]
        assert "parameter `more` is in it, but not here" in self.refused(net, optimizer, tensors, scalars)

    def test_a_parameter_of_another_shape(self, parts):
        net, optimizer, tensors, scalars = parts
        scalars["state"]["last.bias"]["shape"] = [4]
        assert "`last.bias` has the shape [4] there, and [3] here" in self.refused(net, optimizer, tensors, scalars)

    def test_parameters_grouped_otherwise(self, parts):
        net, _, tensors, scalars = parts
        optimizer = OPTIMIZERS["adamw"]([{"params": list(net.parameters())}])
        assert "do not form a group" in self.refused(net, optimizer, tensors, scalars)

    def test_another_kind_of_optimizer(self, parts):
        net, _, tensors, scalars = parts
        optimizer = OPTIMIZERS["sgd"](groups_of(net))
        assert "`AdamW`, not `SGD`" in self.refused(net, optimizer, tensors, scalars)

    def test_an_option_that_the_optimizer_does_not_have(self, parts):
        net, optimizer, tensors, scalars = parts
        scalars["groups"][1]["options"]["more"] = 1
        assert "option `more` is in it, but not here" in self.refused(net, optimizer, tensors, scalars)


def test_state_that_is_no_data_is_refused():
    net = net_of(0)
    optimizer = OPTIMIZERS["adamw"](groups_of(net))
    optimizer.state[net.first.weight]["hook"] = print
    with pytest.raises(FindingError, match=r"KD508 .*`first.weight/hook` is a `builtin_function_or_method`"):
        flatten(optimizer, names_of(net))
