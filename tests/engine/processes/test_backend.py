from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.processes.backend import Backend, SingleProcess


def net_and_optimizer(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    return net, torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)


def backward(backend, net, factor=1.0):
    with backend.accumulate(net, last=True), backend.autocast():
        loss = net(torch.ones(3, 4)).float().square().mean() * factor
    backend.backward(loss)


def bits(net):
    return {name: tensor.view(torch.int32).tolist() for name, tensor in net.state_dict().items()}


def train(backend, net, optimizer, steps):
    for _ in range(steps):
        backward(backend, net)
        backend.clip(optimizer, net.parameters(), 0.5)
        backend.step(optimizer)
        optimizer.zero_grad()


def test_one_process_is_a_backend():
    backend: Backend = SingleProcess()
    assert (backend.rank, backend.world, backend.is_main, backend.device) == (0, 1, True, torch.device("cpu"))
    assert backend.sum(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    assert backend.barrier() is None


@pytest.mark.parametrize(
    ("precision", "dtype", "scales"),
    [("fp32", torch.float32, False), ("bf16", torch.bfloat16, False), ("fp16", torch.float16, True)],
)
def test_forward_passes_compute_in_the_precision_and_parameters_stay(precision, dtype, scales):
    backend = SingleProcess(precision=precision)
    net, _ = net_and_optimizer()
    net = backend.wrap(net)
    with backend.autocast():
        assert net(torch.ones(1, 4)).dtype == dtype
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    assert backend.scales == scales


def test_an_unknown_precision_is_a_programmers_mistake():
    with pytest.raises(KeyError):
        SingleProcess(precision="int3")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_norm_is_that_of_the_unscaled_gradient(precision):
    net, optimizer = net_and_optimizer()
    with torch.autocast("cpu", torch.bfloat16 if precision == "bf16" else torch.float16, enabled=precision != "fp32"):
        loss = net(torch.ones(3, 4)).float().square().mean()
    loss.backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in net.parameters()]).norm()
    net.zero_grad()
    backend = SingleProcess(precision=precision)
    backward(backend, net)
    norm = backend.clip(optimizer, net.parameters(), None)
    torch.testing.assert_close(norm, expected, rtol=1e-3 if precision == "fp16" else 1e-6, atol=0)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_clipping_gives_the_norm_before_and_leaves_the_limit(precision):
    backend = SingleProcess(precision=precision)
    net, optimizer = net_and_optimizer()
    backward(backend, net)
    whole = backend.clip(optimizer, net.parameters(), 0.01)
    left = torch.cat([parameter.grad.flatten() for parameter in net.parameters()]).norm()
    assert whole > 0.1
    assert left.item() == pytest.approx(0.01, rel=1e-3)


def test_only_the_given_parameters_are_clipped():
    backend = SingleProcess()
    net, optimizer = net_and_optimizer()
    backward(backend, net)
    before = net[2].weight.grad.clone()
    backend.clip(optimizer, net[0].parameters(), 1e-3)
    assert torch.equal(net[2].weight.grad, before)
    assert net[0].weight.grad.norm() <= 1e-3


def test_a_gradient_below_the_limit_is_not_touched():
    backend = SingleProcess()
    net, optimizer = net_and_optimizer()
    backward(backend, net)
    before = net[0].weight.grad.clone()
    backend.clip(optimizer, net.parameters(), 1e6)
    assert torch.equal(net[0].weight.grad, before)


def test_parameters_without_gradients_have_the_norm_zero():
    net, optimizer = net_and_optimizer()
    assert SingleProcess().clip(optimizer, net.parameters(), 1.0).item() == 0


def test_an_overflow_leaves_the_step_out_and_lowers_the_scale():
    backend = SingleProcess(precision="fp16")
    net, optimizer = net_and_optimizer()
    before = bits(net)
    backward(backend, net, factor=1e36)
    backend.clip(optimizer, net.parameters(), 1.0)
    scale = backend.scaler_state()["scale"]
    assert not backend.step(optimizer)
    assert bits(net) == before
    assert backend.scaler_state()["scale"] < scale


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_changes_the_weights_and_returns_true(precision):
    backend = SingleProcess(precision=precision)
    net, optimizer = net_and_optimizer()
    before = bits(net)
    backward(backend, net)
    backend.clip(optimizer, net.parameters(), None)
    assert backend.step(optimizer)
    assert bits(net) != before


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_state_and_scaler_state_are_all_a_resume_needs(precision):
    backend = SingleProcess(precision=precision)
    net, optimizer = net_and_optimizer()
    train(backend, net, optimizer, 2)
    state = {name: tensor.clone() for name, tensor in backend.state(net).items()}
    momenta = optimizer.state_dict()["state"]
    momenta = {key: {name: tensor.clone() for name, tensor in entry.items()} for key, entry in momenta.items()}
    scaler = json.loads(json.dumps(backend.scaler_state()))
    train(backend, net, optimizer, 3)

    other, resumed = net_and_optimizer(seed=1)
    second = SingleProcess(precision=precision)
    second.load(other, state)
    second.load_scaler_state(scaler)
    resumed.load_state_dict(resumed.state_dict() | {"state": momenta})
    train(second, other, resumed, 3)
    assert bits(other) == bits(net)
    assert second.scaler_state() == backend.scaler_state()


def test_weights_that_do_not_fit_are_reported_with_their_differences():
    net, _ = net_and_optimizer()
    state = net.state_dict()
    del state["0.bias"]
    state["2.weight"] = torch.ones(2, 2)
    with pytest.raises(FindingError) as caught:
        SingleProcess().load(net, state)
    (diagnostic,) = caught.value.findings
    assert diagnostic.code == "KD504"
    assert any("0.bias" in note for note in diagnostic.notes)
    assert any("2.weight" in note for note in diagnostic.notes)
