"""A micro-batch never waits for the device: no number of a tensor is asked for before the step is done."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kdspec.engine.step.training_loop import TrainingLoop

GENERAL = "stages.distil.distiller.general"
WAITING = {"_local_scalar_dense", "is_nonzero", "nonzero", "equal"}
HIDDEN = ("hidden_mse", "cos", "pkd")
PAIRS = ("fsp", "mmd")


class Watch(TorchDispatchMode):
    """Remembers the operations whose result the processor must wait for."""

    def __init__(self):
        super().__init__()
        self.seen = []
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        chosen_by_mask = func._schema.name == "aten::index" and any(
            each is not None and each.dtype == torch.bool for each in args[1]
        )
        name = func._schema.name.removeprefix("aten::")
        if name in WAITING or chosen_by_mask:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def watch(monkeypatch):
    """Watches forward passes, losses and backward passes of a run."""
    watch = Watch()
    for name in ("terms", "_weighted_loss", "_backward"):
        original = getattr(TrainingLoop, name)

        def watching(self, *args, _original=original, **keywords):
            with watch:
                return _original(self, *args, **keywords)

        monkeypatch.setattr(TrainingLoop, name, watching)
    return watch


@pytest.mark.parametrize("loss", ["ce", "kl", "mse"])
@pytest.mark.parametrize("temperature", ["4", "flsw", "cwsm"])
def test_soft_and_hard_labels_do_not_wait(loss, temperature, launch, watch):
    launch(f"{GENERAL}.soft_labels={{loss: {loss}, temperature: {temperature}, probability_shift: true}}")
    assert watch.calls > 100
    assert watch.seen == []


def test_matches_do_not_wait(launch, watch):
    single = [f"{{feature: hidden, loss: {loss}, layers: {{2: 1}}}}" for loss in HIDDEN]
    pairs = "pairs: [{teacher: [1, 2], student: [0, 1]}]"
    double = [f"{{feature: hidden, loss: {loss}, {pairs}}}" for loss in PAIRS]
    launch(f"{GENERAL}.matches=[{', '.join([*single, *double])}]")
    assert watch.calls > 100
    assert watch.seen == []


@pytest.mark.parametrize("wait", [lambda t: t.sum().item(), lambda t: bool(t.any()), lambda t: t[t > 0]])
def test_the_watch_sees_what_waits(wait):
    with Watch() as watch:
        wait(torch.ones(3))
    assert watch.seen
