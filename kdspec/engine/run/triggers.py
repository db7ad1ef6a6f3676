"""At which steps something is due: a pure function of the step, so that a resumed run keeps the same days."""

from __future__ import annotations

import math
from dataclasses import dataclass

_SLACK = 1e-6


@dataclass(frozen=True)
class Triggers:
    """Due each time so many steps or epochs are done, and once all steps are.

    Args:
        total: optimizer steps of the stage.
        steps_per_epoch: optimizer steps of a pass over the rows.
        every_steps: the period in steps.
        every_epochs: the period in epochs, which need not be whole; 1 where neither is given.
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
        # The n-th time is after n periods, rounded down; a third of ten steps must not miss the tenth by a rounding error.
        times = math.ceil((step - _SLACK) / period)
        return times * period < step + 1 - _SLACK


def total_steps(steps_per_epoch: int, epochs: float | None, steps: int | None) -> int:
    """The optimizer steps of a stage; a part of an epoch is rounded to whole steps, at least one."""
    if steps is not None:
        return steps
    assert epochs is not None
    return max(1, round(epochs * steps_per_epoch))
