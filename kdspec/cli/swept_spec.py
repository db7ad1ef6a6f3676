"""Checks the points of a sweep before its first run: each is a spec of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdspec.cli.exits import ExitCode
from kdspec.cli.invocation import Invocation
from kdspec.cli.print_diagnostics import show
from kdspec.diagnostics.diagnostic import Diagnostic
from kdspec.diagnostics.finding import Finding, FindingError
from kdspec.engine.run.lock import RunLock
from kdspec.planning.resolved import resolved
from kdspec.render import diagnostics as render
from kdspec.report.comparison.setting_table import SettingRow, setting_rows
from kdspec.source.document import parse
from kdspec.sweep.axis import Axis, GridAxis, RangeAxis
from kdspec.sweep.sweep_point import SweepPoint, SweepRun
from kdspec.sweep.sweep_record import FILE, SweepRecord, axes_of, read_record

if TYPE_CHECKING:
    from kdspec.api.plan.plan import Plan, StagePlan
    from kdspec.cli.read_spec import Reading

_SHOWN = 20
"""Wrong values that are printed."""


@dataclass(frozen=True)
class SweptSpec:
    """The spec of a sweep, with the values that all its runs have.

    Args:
        invocation: reads the spec.
        spec: the file.
        sets: the arguments of `--set` of all runs.
    """

    invocation: Invocation
    spec: str
    sets: Sequence[str]

    def read(self, sets: Iterable[str]) -> Reading:
        """The spec with more values."""
        return self.invocation.read(self.spec, (*self.sets, *sets))

    def first(self, axes: Sequence[Axis]) -> Reading:
        """The spec with the first values of a sweep, and the name and the seed that it has itself."""
        return self.read(next(corners(axes)).sets)

    def checker(self, reading: Reading, *, each: bool) -> Callable[[SweepRun], str | None]:
        """Tells why a run cannot be started: the files of the spec have changed since `reading`, or its values are wrong.

        Args:
            reading: the spec as the sweep began with it.
            each: whether the values of each run are checked too, which were not known before.
        """
        document = reading.document
        texts = {} if document is None else {name: source.text for name, source in document.sources.items()}

        def check(run: SweepRun) -> str | None:
            if (file := changed_file(texts)) is not None:
                return f"`{file}` has been changed while the sweep runs"
            errors = [each for each in self.read(run.sets).diagnostics if each.severity == "error"] if each else []
            return f"{errors[0].code} {errors[0].line}" if errors else None

        return check

    def check(self, runs: Sequence[SweepRun]) -> ExitCode:
        """Read the spec with the values of each run; what is wrong is printed once for each value, with its place.

        Of a point with several seeds only the first is read, but for the first point.
        """
        wrong: dict[tuple[str, str, str], tuple[SweepRun, Reading, Diagnostic]] = {}
        code, seen = ExitCode.FINE, set()
        for run in runs:
            if run.point.slug in seen and run.point != runs[0].point:
                continue
            seen.add(run.point.slug)
            reading = self.read(run.sets)
            code = max(code, reading.exit_code) if reading.failed else code
            for diagnostic in reading.diagnostics:
                if diagnostic.severity == "error" or run is runs[0]:
                    wrong.setdefault(_key(diagnostic, reading), (run, reading, diagnostic))
        for run, reading, diagnostic in list(wrong.values())[:_SHOWN]:
            if diagnostic.severity == "error" and reading.document is not None:
                self.invocation.err.say(f"in run {run.name}:")
            show([diagnostic], reading.sources, reading.name, self.invocation.err)
        if wrong:
            self.invocation.err.say(render.summary([each for *_, each in wrong.values()], self.spec))
        return ExitCode(code)


@contextmanager
def opened(folder: Path, record: SweepRecord, swept: SweptSpec) -> Iterator[SweepRecord]:
    """Lock the folder of a sweep and record what it consists of: what it has already, and what `record` has more.

    Raises:
        FindingError: KD003 if the folder has something else, KD505 if it is in use, KD509 if the sweep in it began with
            another spec, or with values that `record` does not have.
    """
    if not (folder / FILE).exists() and folder.is_dir() and any(each.name != ".lock" for each in folder.iterdir()):
        message = f"`{folder}` is not the folder of a sweep: it has no `{FILE}`"
        help_ = "choose another folder with `--output`, or give the spec another `name`"
        raise FindingError(Finding("KD003", message, help=help_))
    with RunLock(folder):
        had = read_record(folder)
        if had is not None:
            record = had.extended(record, folder)
            if rows := _changes(had, swept):
                message = f"the sweep in `{folder}` began with another spec"
                notes = tuple(f"`{row.path}` was `{row.texts[0]}` and is `{row.texts[1]}`" for row in rows[:_SHOWN])
                help_ = "give the spec another `name`, as with `--set name=other`, for a sweep of its own"
                raise FindingError(Finding("KD509", message, notes=notes, help=help_))
        record.write(folder)
        yield record


def _changes(had: SweepRecord, swept: SweptSpec) -> list[SettingRow]:
    """What differs between the spec that a sweep began with and that of now, at its first point."""
    reading = swept.first(axes_of(had))
    assert reading.plan is not None, "the values of the sweep have been checked"
    return setting_rows([parse(had.spec, FILE).data, parse(resolved(reading.plan), FILE).data])


def _key(diagnostic: Diagnostic, reading: Reading) -> tuple[str, str, str]:
    """What a diagnostic is about: a value that is wrong in many points is one mistake."""
    at = diagnostic.primary.span if diagnostic.primary is not None else None
    # Of a key that is not there, the path up to it, whatever the values are.
    text = reading.sources[at.file].text[: at.end_column] if at is not None and at.file.startswith("--set") else f"{at}"
    return (diagnostic.code, diagnostic.message, text)


def final_stage(plan: Plan) -> StagePlan:
    """The stage that trains the student of a run: the last one with teachers, or the last one."""
    return ([stage for stage in plan.stages if stage.teachers] or list(plan.stages))[-1]


def corners(axes: Sequence[Axis]) -> Iterator[SweepPoint]:
    """Points with each value of a list and both ends of each range; the others are the first ones."""
    ends: dict[str, tuple[str, ...]] = {}
    for axis in axes:
        match axis:
            case GridAxis():
                ends[axis.path] = axis.texts
            case RangeAxis():
                ends[axis.path] = (axis.written(axis.low), axis.written(axis.high))
    first = {path: texts[0] for path, texts in ends.items()}
    yield SweepPoint(first)
    for path, texts in ends.items():
        yield from (SweepPoint({**first, path: text}) for text in texts[1:])


def changed_file(sources: Mapping[str, str]) -> str | None:
    """The file of a spec whose text is no longer the one that was read; None if all are as they were."""
    for name, text in sources.items():
        if not name.startswith("--set"):
            try:
                now = Path(name).read_text(encoding="utf-8")
            except OSError:
                return name
            if now.removeprefix("\ufeff") != text:
                return name
    return None
