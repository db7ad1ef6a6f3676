"""Samples the points of a sweep with Optuna, whose study is a file in the sweep's folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kdspec.sweep.axis import Axis, AxisError, GridAxis, RangeAxis
from kdspec.sweep.sweep_record import SampledPoint

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

FILE = "optuna.log"
STUDY = "points"
SamplerName = Literal["random", "tpe"]
INSTALL = "needs the package `optuna`: pip install 'kdspec[sweep]'"


class PointSearch:
    """The study of a sweep, in which each point is a trial.

    A draw depends on the seed, the number of the trial and the values of earlier trials, not on when the sweep was stopped.
    Values are told such that higher is better: a metric that should be low has the other sign in the study.

    Args:
        folder: the folder of the sweep; None keeps the study in memory.
        axes: what is sampled: lists as choices, and ranges.
        sampler: `random`, or `tpe`, which prefers the neighbourhood of good points.
        seed: the seed of the sampler.
    """

    def __init__(self, folder: Path | None, axes: Sequence[Axis], sampler: SamplerName, seed: int) -> None:
        optuna = imported()
        self.axes, self.sampler, self.seed = tuple(axes), sampler, seed
        storage = optuna.storages.InMemoryStorage()
        if folder is not None:
            storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / FILE)))
        self.study: Study = optuna.create_study(
            storage=storage, study_name=STUDY, direction="maximize", load_if_exists=True
        )

    def draw(self) -> SampledPoint:
        """The next point."""
        number = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = self._sampler(number)
        trial = self.study.ask(_distributions(self.axes))
        return SampledPoint(trial.number, {axis.path: _text(axis, trial.params[axis.path]) for axis in self.axes})

    def tell(self, trial: int, value: float | None, *, stopped: bool = False) -> None:
        """Record the end of a point.

        Args:
            trial: the number of its trial.
            value: its value, higher is better; None if it has failed or was stopped early.
            stopped: whether it was stopped early.
        """
        states = imported().trial.TrialState
        if self.study.get_trials(deepcopy=False)[trial].state.is_finished():
            return
        if value is None:
            self.study.tell(trial, state=states.PRUNED if stopped else states.FAIL)
        else:
            self.study.tell(trial, value)

    def forget(self, known: Sequence[int]) -> None:
        """End the trials that no point of the sweep has: a sweep was killed between the draw and its record."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.number not in known:
                self.tell(trial.number, None)

    def _sampler(self, number: int) -> BaseSampler:
        samplers = imported().samplers
        digest = hashlib.sha256(f"{self.seed} {number}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        made: BaseSampler = (samplers.RandomSampler if self.sampler == "random" else samplers.TPESampler)(seed=seed)
        return made


def imported() -> Any:
    """The library, which prints only warnings. Raises `AxisError` if it is not installed."""
    try:
        import optuna
    except ImportError as error:
        if error.name != "optuna":
            raise
        raise AxisError(INSTALL) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _distributions(axes: Sequence[Axis]) -> dict[str, BaseDistribution]:
    distributions = imported().distributions
    found: dict[str, BaseDistribution] = {}
    for axis in axes:
        match axis:
            case GridAxis():
                found[axis.path] = distributions.CategoricalDistribution(axis.texts)
            case RangeAxis(whole=True):
                found[axis.path] = distributions.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
            case RangeAxis():
                found[axis.path] = distributions.FloatDistribution(axis.low, axis.high, log=axis.log)
    return found


def _text(axis: Axis, value: object) -> str:
    if isinstance(axis, RangeAxis):
        assert isinstance(value, int | float), "a range has numbers"
        return axis.written(value)
    return str(value)
