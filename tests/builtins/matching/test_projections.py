"""Projections: shapes, first weights, reproducibility and their own optimizer options."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from kdspec.api.kinds.context import BuildContext, ProjectionContext
from kdspec.builtins.matching.projections import ACTIVATIONS, Linear, kdspec_components

PROJECTIONS = {component.name: component for component in kdspec_components()}
WIDTHS = ProjectionContext(student_width=12, teacher_width=20)


def test_the_weights_are_small_and_the_bias_is_zero_at_first():
    torch.manual_seed(0)
    layer = Linear().build(ProjectionContext(student_width=300, teacher_width=200))
    assert layer.weight.shape == (200, 300)
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert layer.weight.mean().item() == pytest.approx(0, abs=1e-3)
    assert not layer.bias.any()


def test_the_first_weights_come_from_torchs_generator():
    def weights():
        torch.manual_seed(7)
        return Linear().build(WIDTHS).weight

    assert torch.equal(weights(), weights())


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_an_activation_is_applied_after_the_linear_layer(name):
    module = PROJECTIONS[name]().build(WIDTHS)
    hidden = torch.randn(2, 3, 12)
    function = getattr(torch.nn.functional, name, None) or getattr(torch, name)
    arguments = [module[1].weight] if name == "prelu" else []
    torch.testing.assert_close(module(hidden), function(module[0](hidden), *arguments))
    assert module[0].weight.std() < 0.03


def test_the_activations_that_textbrewer_names_are_among_them():
    assert {"linear", "relu", "tanh", "gelu", "silu"} <= set(PROJECTIONS)


def test_each_projection_has_its_own_documentation():
    assert len({component.__doc__ for component in PROJECTIONS.values()}) == len(PROJECTIONS)


@pytest.mark.parametrize("name", ["linear", "tanh"])
def test_only_the_options_that_are_given_go_to_the_optimizer(name):
    projection = PROJECTIONS[name]
    assert projection().optimizer_options() == {}
    assert projection(lr=1e-3, weight_decay=0.0).optimizer_options() == {"lr": 1e-3, "weight_decay": 0.0}


@pytest.mark.parametrize(("key", "value"), [("lr", 0.0), ("lr", -1.0), ("weight_decay", -0.1), ("lr", "fast")])
def test_an_impossible_option_is_refused(key, value):
    with pytest.raises(ValidationError):
        Linear.model_validate({key: value})


def test_none_leaves_the_feature_as_it_is():
    hidden = torch.randn(2, 3, 12)
    assert torch.equal(PROJECTIONS["none"]().build(BuildContext())(hidden), hidden)


def test_a_context_without_a_width_cannot_be_made():
    with pytest.raises(TypeError, match="teacher_width"):
        ProjectionContext(student_width=12)
