"""Torch's optimizers."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from kdspec.api.kinds.context import OptimizerContext
from kdspec.builtins.training.optimizers import AdamW, NAdam, Sgd, TorchOptimizer, kdspec_components

OPTIMIZERS = {c.name: c for c in kdspec_components() if issubclass(c, TorchOptimizer)}


def parameter(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.nn.Parameter(torch.randn(30, 7, generator=generator).to(dtype))


def optimizer(component, *parameters, **options):
    return component.build(OptimizerContext())([{"params": list(parameters), **options}])


def trained(make, dtype=torch.float32, steps=5):
    """A parameter after some steps with known gradients."""
    weight = parameter(dtype)
    steps_with = make(weight)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        weight.grad = torch.randn(30, 7, generator=generator).to(dtype)
        steps_with.step()
    return weight.detach()


def test_torchs_usual_optimizers_are_available():
    assert set(OPTIMIZERS) == {"sgd", "adam", "adamw", "nadam", "radam", "adagrad", "rmsprop", "adafactor"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_does_what_torchs_class_does(name):
    component = OPTIMIZERS[name](lr=0.02, weight_decay=0.1)
    torchs = getattr(torch.optim, component.torch_name)
    found = trained(lambda weight: optimizer(component, weight))
    torch.testing.assert_close(found, trained(lambda weight: torchs([weight], lr=0.02, weight_decay=0.1)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_defaults_are_torchs_but_for_the_learning_rate_of_adam(name):
    component = OPTIMIZERS[name]()
    torchs = getattr(torch.optim, component.torch_name)([parameter()]).defaults
    differing = {key for key, value in component.model_dump(exclude={"decay"}).items() if value != _plain(torchs[key])}
    assert differing <= {"lr"}
    assert component.lr == (5e-5 if "adam" in name else torchs["lr"])


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_fused_kernel_gives_the_same_update_every_time(name, dtype):
    component = OPTIMIZERS[name](lr=0.02)
    made = optimizer(component, parameter(dtype))
    assert made.defaults["fused"] is True
    fused = trained(lambda weight: optimizer(component, weight), dtype)
    assert torch.equal(fused, trained(lambda weight: optimizer(component, weight), dtype))
    plain = getattr(torch.optim, component.torch_name)
    torch.testing.assert_close(fused, trained(lambda weight: plain([weight], lr=0.02), dtype))


@pytest.mark.parametrize("other", [parameter(torch.float16), torch.nn.Parameter(torch.zeros(2, device="meta"))])
def test_parameters_that_the_fused_kernel_does_not_suit_are_stepped_without_it(other):
    assert not optimizer(AdamW(), parameter(), other).defaults["fused"]


@pytest.mark.parametrize(
    "name", sorted(OPTIMIZERS.keys() - {"adafactor"})
)  # whose update of a weight depends on the others
def test_with_several_processes_a_shard_of_a_tensor_is_updated_like_the_whole(name):
    make = OPTIMIZERS[name](lr=0.02, weight_decay=0.1).build(OptimizerContext(processes=2))
    gradients = torch.randn(20, 30, 7, generator=torch.Generator().manual_seed(1))
    pieces = [torch.nn.Parameter(piece.clone()) for piece in parameter().detach().split([13, 12, 5])]
    whole = parameter()
    for weights in ([whole], pieces):
        steps_with = make([{"params": weights}])
        for gradient in gradients:
            for weight, part in zip(weights, gradient.split([len(each) for each in weights]), strict=True):
                weight.grad = part.clone()
            steps_with.step()
    assert torch.equal(torch.cat(pieces), whole)


def test_only_optimizers_with_a_fused_kernel_ask_for_it():
    assert "fused" not in optimizer(NAdam(), parameter()).defaults


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_groups_are_split_where_there_is_weight_decay_and_only_weights_decay(name):
    component = OPTIMIZERS[name]
    assert component(weight_decay=0.1).splits_decay({})
    assert component(weight_decay=0.0).splits_decay({"weight_decay": 0.2, "lr": 1.0})
    assert not component(weight_decay=0.0).splits_decay({"lr": 1.0})
    assert not component(weight_decay=0.1).splits_decay({"weight_decay": 0.0})
    assert not component(weight_decay=0.1, decay="all").splits_decay({"weight_decay": 0.2})


def test_a_group_keeps_its_own_options():
    made = AdamW(lr=1e-3).build(OptimizerContext())([{"params": [parameter()]}, {"params": [parameter()], "lr": 0.5}])
    assert [group["lr"] for group in made.param_groups] == [1e-3, 0.5]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("adamw", {"lr": 0}),
        ("adamw", {"betas": [0.9]}),
        ("adamw", {"betas": [0.9, 1.0]}),
        ("adamw", {"weight_decay": -0.1}),
        ("adamw", {"momentum": 0.9}),
        ("sgd", {"momentum": -1}),
        ("rmsprop", {"alpha": 1}),
        ("adafactor", {"beta2_decay": 0.8}),
    ],
)
def test_an_impossible_option_is_refused(name, parameters):
    with pytest.raises(ValidationError):
        OPTIMIZERS[name].model_validate(parameters)


def test_nesterovs_momentum_needs_momentum():
    with pytest.raises(ValidationError, match="needs a `momentum`") as caught:
        Sgd(nesterov=True)
    assert caught.value.errors()[0]["loc"] == ("nesterov",)
    assert optimizer(Sgd(momentum=0.9, nesterov=True), parameter()).defaults["nesterov"]
