"""Models that change their type while they are built: with and without fake tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from toy_runs import SPEC, TOYS

from kdspec.rehearsal.convertible import convertible
from kdspec.rehearsal.rehearse import rehearse
from kdspec.testing import plan, registry

CHANGES = {
    "double": nn.Module.double,
    "half": nn.Module.half,
    "to bfloat16": lambda module: module.to(torch.bfloat16),
    "to another device": lambda module: module.to("meta"),
}


def made():
    return nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 2, bias=False))


@pytest.mark.parametrize("change", CHANGES)
def test_a_module_is_converted_in_place_as_on_real_tensors(change):
    with convertible(FakeTensorMode()):
        module = made()
        kept = list(module.parameters())
        CHANGES[change](module)
    real = CHANGES[change](made())
    assert [id(each) for each in module.parameters()] == [id(each) for each in kept]
    assert [(each.dtype, each.device, each.shape) for each in module.parameters()] == [
        (each.dtype, each.device, each.shape) for each in real.parameters()
    ]


def test_afterwards_the_mode_keeps_no_tensor():
    mode = FakeTensorMode()
    memo = mode.fake_tensor_converter.meta_converter.tensor_memo
    with convertible(mode):
        made()
    assert mode.fake_tensor_converter.meta_converter.tensor_memo is memo
    assert not memo


def test_a_plugin_whose_model_is_in_double_precision_is_rehearsed(tmp_path):
    known = registry(TOYS)
    found = rehearse(plan(SPEC, known, folder=tmp_path), known)
    assert {name: size.parameters for name, size in found.models.items()} == {"teacher": 227, "student": 109}
    assert not [note for each in found.findings for note in each.notes if "without weights" in note]
