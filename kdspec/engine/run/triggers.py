"""The steps at which something is due: a pure function of the step, so that a resumed run keeps the same schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

_SLACK = 1e-6


@dataclass(frozen=True)
class Triggers:
    """Due at a period in steps or epochs, and at the last step.

    Args:
        total: optimizer steps of the stage.
        steps_per_epoch: optimizer steps of a pass over the rows.
        every_steps: the period in steps.
        every_epochs: the period in epochs, which may be a fraction; 1 if neither is given.
    """

    total: int
    steps_per_epoch: int
    every_steps: int | None = None
    every_epochs: float | None = None

    def due(self, step: int) -> bool:
        """Whether it is due after `step` steps."""
        if step == self.total:
            return True
        if self.every_steps is not None:
            return step % self.every_steps == 0
        period = (self.every_epochs or 1.0) * self.steps_per_epoch
        # The n-th time is after n periods, rounded down. With _SLACK, three periods of a third of ten steps are due at the
        # tenth step despite rounding errors.
        times = math.ceil((step - _SLACK) / period)
        return times * period < step + 1 - _SLACK


def total_steps(steps_per_epoch: int, epochs: float | None, steps: int | None) -> int:
    """The optimizer steps of a stage; a fraction of an epoch is rounded to whole steps, at least one."""
    if steps is not None:
        return steps
    assert epochs is not None
    return max(1, round(epochs * steps_per_epoch))
