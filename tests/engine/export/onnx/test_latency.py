"""The batches whose time is measured."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kdspec.engine.export.onnx import latency


@pytest.mark.parametrize(
    ("lengths", "batches"),
    [
        ([3] * 9 + [20] * 31, [(1, 3), (1, 20), (32, 20)]),
        ([3] * 40 + [20] * 40, [(1, 3), (1, 20), (32, 3), (32, 20)]),
        ([12] * 39 + [13], [(1, 12), (32, 12), (32, 13)]),
        ([5] * 4, [(1, 5), (32, 5)]),
        ([0] * 4, [(1, 0), (32, 0)]),
    ],
)
def test_each_batch_is_measured_once(lengths, batches):
    answered = SimpleNamespace(lengths=np.array(lengths), batch=lambda rows: max(lengths[row] for row in rows))
    masks = [lambda tokens: {"attention_mask": torch.ones(1, tokens)}, lambda tokens: {"values": torch.ones(1, tokens)}]
    forward = SimpleNamespace(inputs=masks[not any(lengths)])
    assert [(work.rows, work.tokens) for work in latency.work(forward, answered)] == batches
