"""A head with merged classes as a module."""

from __future__ import annotations

import copy

import torch
from torch import nn

from kdspec.networks.merged_head import MergedHead


def test_its_outputs_are_the_merged_logits_of_its_layer():
    layer = nn.Linear(4, 3)
    head = MergedHead(layer, ((2,), (0, 1)))
    hidden = torch.randn(2, 5, 4)
    logits = layer(hidden)
    assert torch.equal(head(hidden), torch.stack([logits[..., 2], logits[..., :2].logsumexp(-1)], -1))
    assert "groups=((2,), (0, 1))" in repr(head)
    assert torch.equal(copy.deepcopy(head)(hidden), head(hidden))
