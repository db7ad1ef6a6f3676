"""Progress of a run while it goes on: a live panel on a terminal, a line now and then in a log."""
# ruff: noqa: RUF001 - a multiplication sign is one

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from kdspec.api.hooks import hookimpl
from kdspec.events import (
    CacheState,
    Evaluated,
    Event,
    Note,
    RunFailed,
    RunFinished,
    RunStarted,
    StageFinished,
    StageSkipped,
    StageStarted,
    StepDone,
)
from kdspec.render.clean import clean
from kdspec.render.plan import plain
from kdspec.render.rehearsal import size

_PERIOD = 10.0
"""Seconds between the lines of a log."""
_TREND = 24
_BARS = "▁▂▃▄▅▆▇█"


@dataclass
class _Stage:
    """What is known of the stage that runs."""

    name: str
    number: int
    steps: int
    start: int
    began: float
    step: int = 0
    loss: float | None = None
    last: StepDone | None = None
    rate: float | None = None
    """Rows in a second, smoothed."""
    trends: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Replaced, never changed: the panel is drawn in another thread."""

    def add(self, event: StepDone) -> None:
        self.step, self.last = event.step, event
        rate = event.rows / event.seconds if event.seconds > 0 else None
        self.rate = rate if self.rate is None or rate is None else 0.8 * self.rate + 0.2 * rate
        grown = {name: (*self.trends.get(name, ()), value)[-_TREND:] for name, value in event.terms.items()}
        self.trends = {**self.trends, **grown}

    def left(self, now: float) -> float | None:
        """Seconds to the end at the speed so far, evaluations and saves included."""
        done = self.step - self.start
        return None if done <= 0 else max(0.0, (now - self.began) / done * (self.steps - self.step))


class Progress:
    """An observer of a run that tells of it on a console; to be used as a context, around the run.

    Args:
        console: where to tell; the live panel appears only where it is a terminal.
        clock: seconds that only grow.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._stages: tuple[str, ...] = ()
        self._stage: _Stage | None = None
        self._doing = "starting"
        self._told = -math.inf
        self._live: Live | None = None
        self._spinner = Spinner("dots" if self._fancy else "line")

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, get_renderable=self.panel, transient=True, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the panel away, so that other text can follow."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    @hookimpl
    def kdspec_observe(self, event: Event, session: Any) -> None:
        """Take in an event, and tell of it."""
        del session
        match event:
            case RunStarted():
                self._stages = event.stages
                self._do("loading models and data")
            case StageStarted():
                self._start(event)
            case StepDone() if self._stage is not None:
                self._stage.add(event)
                self._tell_step()
            case Evaluated():
                self._say(self._where(event.stage, event.step) + _metrics(event), "bold" if event.best else "")
            case CacheState() if not event.hits:
                self._say(_cached(event), "" if event.used else "dim")
            case StageFinished():
                self._stage = None
                self._say(f"stage {clean(event.stage)} is done after {duration(event.seconds)}{_best(event)}")
                self._do("comparing the models" if event.stage in self._stages[-1:] else "loading")
            case StageSkipped():
                self._say(f"stage {clean(event.stage)} is skipped: {clean(event.reason)}")
            case Note():
                told = "warning: " if event.level == "warning" else ""
                self._say(f"{told}{clean(event.text)}", "yellow" if told else "")
            case RunFinished() | RunFailed():
                self._stage, self._doing = None, "done"
            case _:
                pass

    def panel(self) -> RenderableType:
        """What the terminal shows now."""
        now, stage = self._clock(), self._stage
        if stage is None:
            self._spinner.update(text=Text(f" {self._doing}"))
            return self._spinner
        head = Table.grid(padding=(0, 2, 0, 0))
        left = stage.left(now)
        head.add_row(
            Text(f"stage {stage.number}/{len(self._stages)}").append(f" {clean(stage.name)}", "bold"),
            ProgressBar(total=stage.steps, completed=stage.step, width=30),
            Text(f"{stage.step}/{stage.steps}"),
            Text("" if stage.rate is None else f"{_speed(stage.rate)} rows/s"),
            Text(f"{duration(now - stage.began)} so far"),
            Text("" if left is None else f"{duration(left)} left"),
        )
        return head if stage.last is None else Group(head, self._terms(stage, stage.last))

    @property
    def _fancy(self) -> bool:
        return not self._console.options.ascii_only

    def _terms(self, stage: _Stage, last: StepDone) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_row("", Text("loss", "bold"), Text(number(last.loss), "bold"), "", "")
        for name, trend in stage.trends.items():
            # A term of weight 0 is left out of a step.
            value, weight = last.terms.get(name), last.weights.get(name)
            table.add_row(
                "",
                Text(clean(name)),
                Text("off" if value is None else number(value)),
                Text("" if weight is None else f"× {plain(float(weight))}", "dim"),
                Text(sparkline(trend) if self._fancy else "", "cyan"),
            )
        return table

    def _start(self, event: StageStarted) -> None:
        position = self._stages.index(event.stage) + 1 if event.stage in self._stages else 1
        self._stage = _Stage(event.stage, position, event.steps, event.start_step, self._clock(), event.start_step)
        self._told = self._clock()
        done = f", {event.start_step} of them done" if event.start_step else ""
        self._say(
            f"stage {position}/{len(self._stages)} {clean(event.stage)}: {event.steps:,} steps{done}, "
            f"{event.epochs:.3g} {'epoch' if event.epochs == 1 else 'epochs'} of {event.rows:,} rows"
        )

    def _tell_step(self) -> None:
        stage, now = self._stage, self._clock()
        if self._live is not None or stage is None or stage.last is None:
            return
        # The first step says at once that it works; later ones only now and then.
        if now - self._told < _PERIOD and stage.step > stage.start + 1:
            return
        self._told = now
        terms = stage.last.terms
        told = ", ".join(f"{clean(name)} {number(value)}" for name, value in terms.items()) if len(terms) > 1 else ""
        parts = [f"loss {number(stage.last.loss)}" + (f" ({told})" if told else "")]
        parts += [f"{_speed(stage.rate)} rows/s"] if stage.rate is not None else []
        left = stage.left(now)
        parts += [f"{duration(left)} left"] if left else []
        self._say(self._where(stage.name, stage.step) + ", ".join(parts))

    def _where(self, stage: str, step: int) -> str:
        total = f"/{self._stage.steps}" if self._stage is not None else ""
        return f"{clean(stage)} {step}{total}: "

    def _do(self, what: str) -> None:
        """Begin something that takes a while: the panel shows it, a log gets a line."""
        self._doing = what
        if self._live is None:
            self._say(what)

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style), soft_wrap=True)


def number(value: float) -> str:
    """A loss in four digits."""
    return f"{value:.4g}" if math.isfinite(value) else str(value)


def duration(seconds: float) -> str:
    """`8 s`, `3:05` or `2:03:05`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def sparkline(values: Sequence[float]) -> str:
    """The values as bars from the smallest to the largest of them; one that is not finite is a gap."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    span = high - low
    top = len(_BARS) - 1

    def bar(value: float) -> str:
        if not math.isfinite(value):
            return " "
        return _BARS[round((value - low) / span * top)] if 0 < span < math.inf else _BARS[0]

    return "".join(map(bar, values))


def _speed(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def _metrics(event: Evaluated) -> str:
    told = ", ".join(f"{clean(name)} {number(value)}" for name, value in event.metrics.items()) or "no metrics"
    return f"{clean(event.split)} {told}{', the best so far' if event.best else ''}"


def _best(event: StageFinished) -> str:
    if event.best_step is None:
        return ""
    told = ", ".join(f"{clean(name)} {number(value)}" for name, value in event.metrics.items())
    return f"; the best was step {event.best_step}" + (f": {told}" if told else "")


def _cached(event: CacheState) -> str:
    name = clean(event.teacher)
    if not event.used:
        return f"teacher {name} is not cached: {clean(event.reason)}"
    room = f"{size(event.row_bytes)} a row, {size(event.bytes)} in all"
    return f"teacher {name} is cached, {room}: {clean(', '.join(event.features))} in {clean(event.folder)}"
