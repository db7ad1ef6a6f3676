"""The file `sweep.json`: what a sweep consists of, so that the same command resumes it and a larger one extends it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.run.durable_files import atomic_write
from kdspec.report.comparison.setting_table import equal
from kdspec.source import read_back
from kdspec.source.read_back import Count, Damage, Form
from kdspec.sweep.axis import Axis, AxisError, GridAxis, RangeAxis, grid_axis, range_axis
from kdspec.sweep.sweep_point import SweepPoint

FILE = "sweep.json"
MOST_RUNS = 10_000
_HELP = "name at least what it has; or give the spec another `name`, as with `--set name=other`, for a sweep of its own"


@dataclass(frozen=True)
class SampledPoint:
    """A point that was sampled, with the number of its trial."""

    trial: Count
    values: dict[str, str]


@dataclass(frozen=True)
class SweepRecord:
    """What the sweep in a folder consists of."""

    spec: str
    """The complete spec of its first point."""
    grid: dict[str, list[str]]
    """The values of each path with a list."""
    ranges: dict[str, str] = field(default_factory=dict)
    sample: Annotated[int, Field(ge=0, le=MOST_RUNS)] = 0
    """Number of points to sample; 0: all of the grid."""
    sampler: str = ""
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1, max_length=MOST_RUNS)] = field(
        default_factory=lambda: [0]
    )
    sampled: list[SampledPoint] = field(default_factory=list)
    """The points that have been sampled so far."""
    threads: dict[str, Count] = field(default_factory=dict)
    """The threads that each run began with, with which it resumes; 0: not set."""
    stopped: dict[str, str] = field(default_factory=dict)
    """The runs that were stopped early, with the reason."""
    format: Literal[1] = 1

    def write(self, folder: Path) -> None:
        """Write the file. Raises KD508 if it cannot be written."""
        atomic_write(folder / FILE, json.dumps(asdict(self), indent=2) + "\n")

    def extended(self, wanted: SweepRecord, folder: Path) -> SweepRecord:
        """The sweep in a folder as a command wants it now, which has all that it has and may have more.

        Raises:
            FindingError: KD509, with what the command lacks.
        """
        lacks = list(_lacks(self, wanted))
        if lacks:
            message = f"the sweep in `{folder}` began with what this command does not have"
            raise FindingError(Finding("KD509", message, notes=tuple(lacks), help=_HELP))
        return replace(
            self,
            grid={path: [*had, *_missing(path, wanted.grid[path], had)] for path, had in self.grid.items()},
            seeds=[*self.seeds, *(seed for seed in wanted.seeds if seed not in self.seeds)],
            sample=wanted.sample,
        )


_FORM: Form[SweepRecord] = Form(SweepRecord)


def read_record(folder: Path) -> SweepRecord | None:
    """The record in a folder; None if there is none. Raises KD003 if it is damaged."""
    try:
        found = read_back.read(folder / FILE, _FORM)
        _check(found)
    except FileNotFoundError:
        return None
    except Damage as damage:
        help_ = "restore the file, or move the folder away to begin a new sweep"
        raise read_back.refused(folder / FILE, damage, help=help_) from damage
    return found


def record_of(
    spec: str, axes: Iterable[Axis], seeds: Iterable[int], *, sample: int = 0, sampler: str = ""
) -> SweepRecord:
    """The record of a sweep that has not begun."""
    grid = {axis.path: list(axis.texts) for axis in axes if isinstance(axis, GridAxis)}
    ranges = {axis.path: axis.text for axis in axes if isinstance(axis, RangeAxis)}
    return SweepRecord(spec, grid, ranges, sample, sampler if sample else "", list(seeds))


def grid_of(record: SweepRecord) -> list[GridAxis]:
    """The lists of values of a sweep."""
    return [grid_axis(f"{path}={','.join(texts)}") for path, texts in record.grid.items()]


def axes_of(record: SweepRecord) -> list[Axis]:
    """The lists and ranges of a sweep."""
    return [*grid_of(record), *(range_axis(f"{path}={text}") for path, text in record.ranges.items())]


def sampled_points(record: SweepRecord) -> list[SweepPoint]:
    """The points that have been sampled, in their order, each once."""
    return list({point.slug: point for point in (SweepPoint(each.values) for each in record.sampled)}.values())


def _lacks(had: SweepRecord, now: SweepRecord) -> Iterator[str]:
    """What an earlier sweep has and a new one does not, one line each."""
    if bool(had.sample) != bool(now.sample):
        yield "`--sample` was given and is not" if had.sample else "`--sample` was not given and is"
        return
    for path in dict.fromkeys((*had.grid, *had.ranges, *now.grid, *now.ranges)):
        then, here = (_written(each, path) for each in (had, now))
        if then is None or here is None:
            yield f"`{path}` {'was not swept and is' if then is None else 'was swept and is not'}"
        elif path in had.grid and path in now.grid and not had.sample:
            if missing := _missing(path, had.grid[path], now.grid[path]):
                yield f"`{path}` had the values {', '.join(had.grid[path])}; this command lacks {', '.join(missing)}"
        elif then != here:
            yield f"`{path}` was `{then}` and is `{here}`: sampled values can be compared only if their ranges are the same"
    if missing_seeds := [str(seed) for seed in had.seeds if seed not in now.seeds]:
        yield f"the seeds were {', '.join(map(str, had.seeds))}; this command lacks {', '.join(missing_seeds)}"
    if had.sample > now.sample:
        yield f"{had.sample} points were to be sampled, and now {now.sample}"
    if had.sampler != now.sampler:
        yield f"the sampler was `{had.sampler}` and is `{now.sampler}`"


def _written(record: SweepRecord, path: str) -> str | None:
    return ",".join(record.grid[path]) if path in record.grid else record.ranges.get(path)


def _missing(path: str, some: Sequence[str], others: Sequence[str]) -> list[str]:
    """Those of some values that are not among others, whichever way these are written."""
    values = _values(path, others)
    pairs = zip(some, _values(path, some), strict=True)
    return [text for text, value in pairs if not any(equal(value, other) for other in values)]


def _check(record: SweepRecord) -> None:
    """Raise `Damage` if the values or ranges of a record are not what options can have."""
    try:
        axes_of(record)
    except AxisError as error:
        raise Damage(str(error)) from error


def _values(path: str, texts: Sequence[str]) -> tuple[object, ...]:
    return grid_axis(f"{path}={','.join(texts)}").values
