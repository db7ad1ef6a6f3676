"""Observers: curves of a run for TensorBoard, if it is installed."""

from __future__ import annotations

import importlib.util
from typing import Any

from kdspec.api.hooks import hookimpl
from kdspec.events import Evaluated, Event, StepDone, curves


@hookimpl
def kdspec_observe(event: Event, session: Any) -> None:
    """Write losses, weights, learning rates and metrics to `tensorboard/` in the run's folder, over optimizer steps.

    The writer is created with the first curve and closed when the run ends or fails. Without the package `tensorboard`
    nothing is written.
    """
    if isinstance(event, StepDone | Evaluated):
        _write(session, event.stage, event.step, curves(event))


def _write(session: Any, stage: str, step: int, values: dict[str, float]) -> None:
    if "tensorboard" not in session.kept:
        if importlib.util.find_spec("tensorboard") is None:
            return
        from torch.utils.tensorboard import SummaryWriter

        session.kept["tensorboard"] = SummaryWriter(str(session.folder / "tensorboard"))
        session.at_end.callback(session.kept["tensorboard"].close)
    for name, value in values.items():
        session.kept["tensorboard"].add_scalar(f"{stage}/{name}", value, step)
