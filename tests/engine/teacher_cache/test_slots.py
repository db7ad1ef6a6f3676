"""What a teacher gives, taken apart into the values of rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdspec.api.working.logits import HeadLogits
from kdspec.api.working.step import Features
from kdspec.engine.teacher_cache.slots import TOKENS, Slot, of_row, rebuilt, tensors, values

MASK = np.array([[True, False, True], [False, True, False]])


def test_features_are_taken_apart_and_put_together():
    features = Features({"hidden": {2: torch.ones(1, 3)}, "logits": (torch.zeros(1, 2), torch.ones(1, 2))})
    found = list(tensors(features, ["hidden", "logits"]))
    assert [(name, place, index) for name, place, index, _ in found] == [
        ("hidden", "layer", 2),
        ("logits", "head", 0),
        ("logits", "head", 1),
    ]
    slots = [Slot(name, place, index, "float32", tuple(each.shape[1:])) for name, place, index, each in found]
    again = rebuilt(slots, [each for *_, each in found])
    assert torch.equal(again["hidden"][2], torch.ones(1, 3))
    assert torch.equal(again["logits"][1], torch.ones(1, 2))


@pytest.mark.parametrize("row", [0, 1])
def test_of_a_large_head_the_logits_that_count_are_computed_and_no_others(row, monkeypatch):
    draw = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(2, 3, 4, generator=draw), torch.randn(50, 4, generator=draw)
    features = Features({"logits": HeadLogits(hidden, weight)})
    slot = Slot("logits", "whole", 0, "float32", (TOKENS, 50), "logits")
    dense = hidden @ weight.T
    computed = []
    make = HeadLogits.dense
    monkeypatch.setattr(HeadLogits, "dense", lambda self: computed.append(self.positions) or make(self))
    ((*_, value),) = values(features, ["logits"])
    found = of_row(slot, value, row, MASK[row])
    assert torch.allclose(found, dense[row][torch.from_numpy(MASK[row])])
    assert computed == [MASK[row].sum()]
