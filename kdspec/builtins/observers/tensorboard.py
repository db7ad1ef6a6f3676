"""Observers: curves of a run for TensorBoard, if it is installed."""

from __future__ import annotations

import importlib.util
from typing import Any

from kdspec.api.hooks import hookimpl
from kdspec.events import Evaluated, Event, StepDone


@hookimpl
def kdspec_observe(event: Event, session: Any) -> None:
    """Write losses, weights, learning rates and metrics to `tensorboard/` in the run's folder, over optimizer steps.

    The writer is created with the first curve and closed when the run ends or fails. Without the package `tensorboard`
    nothing is written.
    """
    match event:
        case StepDone():
            _write(session, event.stage, event.step, _of_step(event))
        case Evaluated():
            named = {f"{event.split}/{name}": value for name, value in event.metrics.items()}
            _write(session, event.stage, event.step, named)
        case _:
            pass


def _write(session: Any, stage: str, step: int, values: dict[str, float]) -> None:
    if "tensorboard" not in session.kept:
        if importlib.util.find_spec("tensorboard") is None:
            return
        from torch.utils.tensorboard import SummaryWriter

        session.kept["tensorboard"] = SummaryWriter(str(session.folder / "tensorboard"))
        session.at_end.callback(session.kept["tensorboard"].close)
    for name, value in values.items():
        session.kept["tensorboard"].add_scalar(f"{stage}/{name}", value, step)


def _of_step(event: StepDone) -> dict[str, float]:
    values = {"loss": event.loss}
    values |= {f"terms/{name}": value for name, value in event.terms.items()}
    values |= {f"weights/{name}": value for name, value in event.weights.items()}
    values |= {f"lr/{name}": value for name, value in event.lr.items()}
    return values if event.grad_norm is None else {**values, "gradient_norm": event.grad_norm}
