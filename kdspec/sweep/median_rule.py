"""The median rule: which runs of a sweep are stopped early, by Optuna's pruner."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kdspec.sweep.search import imported

if TYPE_CHECKING:
    from optuna import Trial

FIRST = 5
"""Runs that finish before one is stopped: fewer say little."""
_WORST = -1e30
"""The value of a NaN, which has no place in a median."""


class MedianRule:
    """Compares a run with the finished ones after the same number of optimizer steps.

    A run is bad if the best value that it has had so far is worse than the median of theirs at that step. What the rule
    has heard is replayed from the logs when a sweep resumes, so nothing of it is kept on disk.
    """

    def __init__(self) -> None:
        optuna = imported()
        pruner = optuna.pruners.MedianPruner(n_startup_trials=FIRST)
        self._study = optuna.create_study(
            direction="maximize", pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0)
        )
        self._trials: dict[str, Trial] = {}
        self._steps: dict[str, set[int]] = {}

    def hear(self, run: str, step: int, value: float) -> bool:
        """Take a value of a run after a step, higher is better; whether the run is bad."""
        if run not in self._trials:
            self._trials[run] = self._study.ask()
        trial = self._trials[run]
        steps = self._steps.setdefault(run, set())
        if step not in steps:  # one that a resumed run computes again is the same
            steps.add(step)
            trial.report(_WORST if math.isnan(value) else value, step)
        return trial.should_prune()

    def end(self, run: str, value: float | None) -> None:
        """Note that a run has finished, with its value, or ended without one."""
        trial = self._trials.pop(run, None)
        if trial is None:
            return
        states = imported().trial.TrialState
        if value is None or math.isnan(value):
            self._study.tell(trial, state=states.FAIL)
        else:
            self._study.tell(trial, value)
