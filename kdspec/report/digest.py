"""What a page shows of a log, collected in one pass over its records and in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from kdspec.api.report import Ending
from kdspec.events import (
    CacheState,
    Evaluated,
    Event,
    Note,
    Preflight,
    Record,
    RunStarted,
    StageFinished,
    StageStarted,
    StepDone,
)
from kdspec.report.curve import Curve

_NOTES = 500
_CURVES = 5_000


@dataclass
class StageCurves:
    """The curves of one stage."""

    loss: Curve = field(default_factory=Curve)
    terms: dict[str, Curve] = field(default_factory=dict)
    weights: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The first and the last weight of each term."""
    metrics: dict[str, Curve] = field(default_factory=dict)
    rates: dict[str, Curve] = field(default_factory=dict)
    """The learning rate of each group of parameters."""
    norms: Curve = field(default_factory=Curve)
    split: str = ""
    """The split of the evaluations."""
    model: str = ""
    """The model of the evaluations."""
    best_step: int | None = None
    kept: dict[str, float] = field(default_factory=dict)
    """The metrics of the best step."""
    ended: bool = False


@dataclass
class Digest:
    """The contents of a log."""

    name: str | None = None
    starts: int = 0
    first: datetime | None = None
    last: datetime | None = None
    """The times of the first and the last event."""
    ending: Ending = field(default_factory=Ending)
    begun: dict[str, None] = field(default_factory=dict)
    """The stages that began, in order."""
    stages: dict[str, StageCurves] = field(default_factory=dict)
    preflights: dict[str, Preflight] = field(default_factory=dict)
    """What the last start of each stage has found."""
    caches: dict[tuple[str, str], tuple[CacheState, int]] = field(default_factory=dict)
    """For each stage and teacher the last state of the cache, and the rows read from it over all starts."""
    notes: list[Note] = field(default_factory=list)
    """The first notes."""
    last_notes: deque[Note] = field(default_factory=lambda: deque(maxlen=_NOTES))
    """The last notes after these."""
    noted: int = 0
    """The number of all notes."""
    start: RunStarted | None = None
    """The last start."""
    full: bool = False
    """Whether there are more curves than a page can have."""
    _curves: int = 0

    @classmethod
    def of(cls, records: Iterable[Record]) -> Digest:
        """Read the records once, oldest first."""
        found = cls()
        for record in records:
            if found.first is None:
                found.first = record.time
            found.last = record.time
            found._take(record.event)
            found.ending.take(record)
        return found

    def _take(self, event: Event) -> None:
        match event:
            case StepDone():
                self._step(event)
            case Evaluated():
                self._evaluated(event)
            case Note():
                self.noted += 1
                (self.notes if len(self.notes) < _NOTES else self.last_notes).append(event)
            case CacheState():
                key = (event.stage, event.teacher)
                before = self.caches[key][1] if key in self.caches else 0
                self.caches[key] = event, before + event.hits
            case Preflight():
                self.preflights[event.stage] = event
            case RunStarted() | StageStarted() | StageFinished():
                self._begin_or_end(event)
            case _:
                pass

    def _begin_or_end(self, event: RunStarted | StageStarted | StageFinished) -> None:
        match event:
            case RunStarted():
                self.starts += 1
                self.start = event
                self.name = event.name if self.name is None else self.name
            case StageStarted():
                self.begun.setdefault(event.stage)
            case StageFinished():
                stage = self._stage(event.stage)
                if not stage.ended:
                    stage.ended, stage.best_step = True, event.best_step
                    stage.kept = {} if event.best_step is None else event.metrics

    def _step(self, event: StepDone) -> None:
        stage = self._stage(event.stage)
        stage.loss.add(event.step, event.loss)
        for name, value in event.terms.items():
            self._add(stage.terms, name, event.step, value)
        for name, value in event.weights.items():
            if name in stage.terms:
                stage.weights[name] = stage.weights.get(name, (value,))[0], value
        for name, value in event.lr.items():
            self._add(stage.rates, name, event.step, value)
        if event.grad_norm is not None:
            stage.norms.add(event.step, event.grad_norm)

    def _evaluated(self, event: Evaluated) -> None:
        stage = self._stage(event.stage)
        if not stage.model:
            stage.split, stage.model = event.split, event.model
        for name, value in event.metrics.items():
            self._add(stage.metrics, name, event.step, value)

    def _stage(self, name: str) -> StageCurves:
        stage = self.stages.get(name)
        if stage is None:
            stage = self.stages[name] = StageCurves()
            self._curves += 2
        return stage

    def _add(self, curves: dict[str, Curve], name: str, step: int, value: float) -> None:
        curve = curves.get(name)
        if curve is None:
            if self._curves >= _CURVES:
                self.full = True
                return
            self._curves += 1
            curve = curves[name] = Curve()
        curve.add(step, value)
