"""Progress of a run: a live panel on a terminal and in a notebook, a line now and then in a log."""
# ruff: noqa: RUF001 - a multiplication sign is one

from __future__ import annotations

import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
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
from kdspec.data.confidence import is_of_confidence, shown
from kdspec.data.embedding.repeated_metrics import repeated
from kdspec.events import (
    CacheState,
    CheckpointSaved,
    Evaluated,
    Event,
    Note,
    Preflight,
    RunFailed,
    RunFinished,
    RunStarted,
    StageFinished,
    StageSkipped,
    StageStarted,
    StepDone,
)
from kdspec.render.clean import clean
from kdspec.render.formats import Detail
from kdspec.render.plan import plain
from kdspec.render.preflight import preflight_line
from kdspec.render.rehearsal import size

_PERIOD = 10.0
"""Seconds between the lines of a log."""
_TREND = 24
_RECENT = 25
"""Steps of which the median tells how long the others will take."""
_FEWEST = 5
"""Steps after the first one, before anything is told of the others."""
_BARS = "▁▂▃▄▅▆▇█"


@dataclass
class _Stage:
    """The state of the current stage."""

    name: str
    number: int
    steps: int
    start: int
    began: float
    step: int = 0
    at: float = 0.0
    """When the last step was done."""
    first: float = math.nan
    """When the first step was done."""
    spent: float = 0.0
    """Seconds of the steps after the first."""
    recent: tuple[float, ...] = ()
    """Seconds of the last steps."""
    loss: float | None = None
    last: StepDone | None = None
    rate: float | None = None
    """Rows per second, smoothed."""
    trends: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Replaced, never mutated: another thread draws the panel."""

    def add(self, event: StepDone, now: float) -> None:
        if self.last is None:
            self.first = now
        else:
            self.spent += event.seconds
        self.step, self.last, self.at = event.step, event, now
        self.recent = (*self.recent, event.seconds)[-_RECENT:]
        rate = event.rows / event.seconds if event.seconds > 0 else None
        self.rate = rate if self.rate is None or rate is None else 0.8 * self.rate + 0.2 * rate
        grown = {name: (*self.trends.get(name, ()), value)[-_TREND:] for name, value in event.terms.items()}
        self.trends = {**self.trends, **grown}

    def left(self, now: float) -> float | None:
        """Seconds to the end by the usual step, and by what came between steps so far: evaluations and saves.

        The first step, and those in which teachers fill their caches, take many times as long as all others: they tell nothing
        of these, and None is the answer before some others are done.
        """
        done = self.step - self.start - 1
        if done < _FEWEST:
            return None
        between = max(0.0, self.at - self.first - self.spent) / done
        left = (statistics.median(self.recent) + between) * (self.steps - self.step)
        return max(0.0, left - (now - self.at))


class Progress:
    """An observer that prints the progress of a run on a console; use it as a context manager around the run.

    Args:
        console: where to print; the live panel needs a terminal, or a notebook with ipywidgets.
        clock: a monotonic clock in seconds.
        told: texts of notes that were printed before the run, and are not printed again.
        detail: `quiet` prints warnings only; `verbose` each step, all metrics, checkpoints and the use of caches.
    """

    def __init__(
        self,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
        told: Collection[str] = (),
        detail: Detail = "normal",
    ) -> None:
        self._console, self._clock, self._told, self._detail = console, clock, told, detail
        self._stages: tuple[str, ...] = ()
        self._stage: _Stage | None = None
        self._doing = "starting"
        self._logged = -math.inf
        self._selected_by = ""
        """The metric that selects the best student of the stage."""
        self._live: Live | None = None
        self._spinner = Spinner("dots" if self._fancy else "line")

    def __enter__(self) -> Self:
        if self._console.is_jupyter:
            # rich draws the panel as a widget there.
            shows = importlib.util.find_spec("ipywidgets") is not None
        else:
            shows = self._console.is_terminal and not self._console.is_dumb_terminal
        if shows and self._detail != "quiet":
            self._live = Live(console=self._console, get_renderable=self.panel, transient=True, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Remove the panel, so that other text can follow."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    @hookimpl
    def kdspec_observe(self, event: Event, session: Any) -> None:
        """Record an event and print it."""
        del session
        match event:
            case RunStarted():
                self._stages = event.stages
                self._announce("loading models and data")
            case StageStarted():
                self._start(event)
            case StepDone() if self._stage is not None:
                self._stage.add(event, self._clock())
                self._log_step()
            case Evaluated():
                self._evaluated(event)
            case CacheState() | CheckpointSaved():
                self._kept(event)
            case StageFinished():
                self._finish(event)
            case StageSkipped():
                self._print(f"stage {clean(event.stage)} skipped: {clean(event.reason)}")
            case Note() | Preflight():
                self._tell(event)
            case RunFinished() | RunFailed():
                self._stage, self._doing = None, "done"
            case _:
                pass

    def panel(self) -> RenderableType:
        """The current content of the panel."""
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
            # A step omits terms of weight 0.
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
        self._selected_by = ""
        self._stage = _Stage(event.stage, position, event.steps, event.start_step, self._clock(), event.start_step)
        self._logged = self._clock()
        done = f", {event.start_step} of them done" if event.start_step else ""
        self._print(
            f"stage {position}/{len(self._stages)} {clean(event.stage)}: {event.steps:,} steps{done}, "
            f"{event.epochs:.3g} {'epoch' if event.epochs == 1 else 'epochs'} of {event.rows:,} rows"
        )

    def _finish(self, event: StageFinished) -> None:
        self._stage = None
        self._print(
            f"stage {clean(event.stage)} finished in {duration(event.seconds)}{_best(event, self._shown(event.metrics))}"
        )
        for found in event.calibration.items():
            self._print(f"calibrated {_calibrated(found)}")
        self._announce("comparing the models" if event.stage in self._stages[-1:] else "loading")

    def _evaluated(self, event: Evaluated) -> None:
        self._selected_by = event.selected_by
        text = self._where(event.stage, event.step) + _metrics(event, self._shown(event.metrics))
        self._print(text, "bold" if event.best else "")

    def _shown(self, metrics: Mapping[str, float]) -> list[str]:
        """Without `verbose` those of confidence only if one of them selects the best student, and none that repeats another."""
        names = shown(metrics, asked=self._verbose or is_of_confidence(self._selected_by))
        twice = () if self._verbose else repeated([metrics], {self._selected_by})
        return [name for name in names if name not in twice]

    def _kept(self, event: CacheState | CheckpointSaved) -> None:
        """Print a new cache, and with `verbose` how it is used and each checkpoint."""
        if isinstance(event, CacheState) and not event.hits:
            self._print(_cached(event), "" if event.used else "dim")
        elif self._verbose:
            what = "checkpoint saved"
            if isinstance(event, CacheState):
                what = f"cache of {clean(event.teacher)}: {event.hits:,} rows read, {event.computed:,} computed"
            self._print(f"{self._where(event.stage, event.step)}{what}", "dim")

    def _log_step(self) -> None:
        stage, now = self._stage, self._clock()
        if stage is None or stage.last is None or (self._live is not None and not self._verbose):
            return
        # Log the first step at once, to show that training works; later ones once per period.
        if not self._verbose and now - self._logged < _PERIOD and stage.step > stage.start + 1:
            return
        self._logged = now
        terms = stage.last.terms
        listed = ", ".join(f"{clean(name)} {number(value)}" for name, value in terms.items()) if len(terms) > 1 else ""
        parts = [f"loss {number(stage.last.loss)}" + (f" ({listed})" if listed else "")]
        parts += [f"{_speed(stage.rate)} rows/s"] if stage.rate is not None else []
        left = stage.left(now)
        parts += [f"{duration(left)} left"] if left else []
        self._print(self._where(stage.name, stage.step) + ", ".join(parts))

    def _where(self, stage: str, step: int) -> str:
        total = f"/{self._stage.steps}" if self._stage is not None else ""
        return f"{clean(stage)} {step}{total}: "

    def _announce(self, what: str) -> None:
        """Announce something that takes a while: in the panel, or as a line of the log."""
        self._doing = what
        if self._live is None:
            self._print(what)

    def _tell(self, event: Note | Preflight) -> None:
        if isinstance(event, Preflight):
            self._print(f"preflight of {preflight_line(event)}", "dim")
        elif event.text not in self._told:
            warning = event.level == "warning"
            text = f"{'warning: ' if warning else ''}{clean(event.text)}"
            self._print(text, "yellow" if warning else "", warning=warning)

    @property
    def _verbose(self) -> bool:
        return self._detail == "verbose"

    def _print(self, text: str, style: str = "", *, warning: bool = False) -> None:
        if warning or self._detail != "quiet":
            self._console.print(Text(text, style), soft_wrap=True)


def number(value: float) -> str:
    """A loss with four digits."""
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
    """The values as bars, scaled from the smallest to the largest; a non-finite value is a gap."""
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


def _metrics(event: Evaluated, names: Sequence[str]) -> str:
    listed = _listed(event.metrics, names) or "no metrics"
    return f"{clean(event.split)} {listed}{', the best so far' if event.best else ''}"


def _best(event: StageFinished, names: Sequence[str]) -> str:
    if event.best_step is None:
        return ""
    listed = _listed(event.metrics, names)
    return f"; the best was step {event.best_step}" + (f": {listed}" if listed else "")


def _calibrated(found: tuple[str, Mapping[str, Any]]) -> str:
    """What was fitted, with the calibration error and the likelihood before and after it."""
    task, of = found
    values = of["values"]
    what = f"temperature {number(values['temperature'])}" if "temperature" in values else of["method"]
    names = [name for name in ("ece", "nll") if name in of["before"] and name in of["after"]]
    listed = ", ".join(f"{name} {number(of['before'][name])} to {number(of['after'][name])}" for name in names)
    return f"{clean(task)}: {what} of {of['rows']:,} validation rows" + (f"; {listed}" if listed else "")


def _listed(metrics: Mapping[str, float], names: Sequence[str]) -> str:
    return ", ".join(f"{clean(name)} {number(metrics[name])}" for name in names)


def _cached(event: CacheState) -> str:
    name = clean(event.teacher)
    if not event.used:
        return f"teacher {name} is not cached: {clean(event.reason)}"
    sizes = f"{size(event.row_bytes)} a row, {size(event.bytes)} in all"
    return f"teacher {name} is cached as its rows are read, {sizes}: {clean(', '.join(event.features))} in {clean(event.folder)}"
