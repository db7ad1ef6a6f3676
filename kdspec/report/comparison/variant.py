"""Runs that differ in nothing but the seed, as one variant with means and standard deviations."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kdspec.data.confidence import is_of_confidence
from kdspec.data.confidence import shown as shown_metrics
from kdspec.report.comparison.compared_run import ComparedRun
from kdspec.report.comparison.setting_table import BESIDE, SettingRow, setting_rows, short_paths

FigureUnit = Literal["metric", "share", "count", "bytes", "ms", "seconds"]
_FEW = 3
"""Settings that name a variant; one with more is named after its run."""


@dataclass(frozen=True)
class Figure:
    """A number of a variant: that of each of its runs that has it."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over the runs; NaN if one of them has NaN."""
        return math.fsum(self.values) / len(self.values) if all(map(math.isfinite, self.values)) else math.nan

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation over the runs; None for a single run, or with a non-finite value."""
        known = len(self.values) > 1 and all(map(math.isfinite, self.values))
        return statistics.stdev(self.values) if known else None


@dataclass(frozen=True)
class FigureColumn:
    """A number that is compared, for each variant; None where a variant has none."""

    name: str
    unit: FigureUnit
    figures: tuple[Figure | None, ...]


@dataclass(frozen=True)
class Variant:
    """Runs with the same settings, up to the seed and the name, that have read the same content."""

    label: str
    runs: tuple[ComparedRun, ...]

    @property
    def finished(self) -> tuple[ComparedRun, ...]:
        """The runs whose numbers count."""
        return tuple(run for run in self.runs if run.status == "finished")


@dataclass(frozen=True)
class RunComparison:
    """Several runs, as variants."""

    runs: tuple[ComparedRun, ...]
    variants: tuple[Variant, ...]
    differences: tuple[SettingRow, ...]
    """The settings that differ, with a value for each variant."""
    content: tuple[SettingRow, ...]
    """The rows, weights and plugins that differ, by their checksums, with a value for each variant."""
    versions: tuple[SettingRow, ...]
    """The versions of libraries that differ, with a value for each variant."""
    metric: str
    """The validation metric by which variants are compared; empty if runs have none, or different ones."""
    lower_is_better: bool
    columns: tuple[FigureColumn, ...]

    @property
    def validation(self) -> FigureColumn | None:
        """The metric by which the best variant is chosen."""
        return self.columns[0] if self.metric and self.columns else None

    @property
    def best(self) -> int | None:
        """The number of the best variant by the mean of its validation metric; test rows have no part in it.

        Only variants that have all their runs count: without its bad seeds one would look better than it is. None if fewer
        than two have them, if there is no metric, or if the validation rows are not the same.
        """
        if self.validation is None or any(row.path.startswith("rows of validation") for row in self.content):
            return None
        figures = zip(self.variants, self.validation.figures, strict=True)
        whole = [figure if len(variant.finished) == len(variant.runs) else None for variant, figure in figures]
        means = [math.nan if figure is None else figure.mean for figure in whole]
        known = [number for number, mean in enumerate(means) if math.isfinite(mean)]
        if len(known) < 2:
            return None
        return (min if self.lower_is_better else max)(known, key=lambda number: means[number])

    @property
    def equals(self) -> tuple[Variant, ...]:
        """The variants with the same mean as the best one, which is only the first of them."""
        if self.best is None or self.validation is None:
            return ()
        means = [None if figure is None else figure.mean for figure in self.validation.figures]
        return tuple(
            variant
            for number, variant in enumerate(self.variants)
            if number != self.best and means[number] == means[self.best] and len(variant.finished) == len(variant.runs)
        )


def compare(runs: Iterable[ComparedRun]) -> RunComparison:
    """Group runs into variants, in the order of their first runs, and collect what differs."""
    found = tuple(runs)
    groups = list(_groups(found))
    firsts = [group[0] for group in groups]
    differences = tuple(setting_rows([first.settings for first in firsts]))
    labels = _labels(groups, differences)
    metrics = {run.selected_by for run in found if run.selected_by}
    metric = metrics.pop() if len(metrics) == 1 else ""
    variants = tuple(Variant(label, tuple(group)) for label, group in zip(labels, groups, strict=True))
    return RunComparison(
        runs=found,
        variants=variants,
        differences=differences,
        content=tuple(_content(firsts)),
        versions=tuple(setting_rows([first.versions for first in firsts])) if _have_versions(firsts) else (),
        metric=metric,
        lower_is_better=any(run.lower_is_better for run in found),
        columns=tuple(_columns(variants, metric)),
    )


def _have_versions(runs: Sequence[ComparedRun]) -> bool:
    """Whether all runs have begun: one without an event has no versions to compare."""
    return all(run.versions for run in runs)


def _groups(runs: Sequence[ComparedRun]) -> Iterator[list[ComparedRun]]:
    """Runs with equal settings that have not read different content; a run without a spec is alone."""
    groups: dict[str, list[list[ComparedRun]]] = {}
    order: list[list[ComparedRun]] = []
    for run in runs:
        key = _key(run)
        same = groups.setdefault(key, []) if key else []
        group = next((group for group in same if all(_reads_the_same(run, other) for other in group)), None)
        if group is None:
            same.append(group := [])
            order.append(group)
        group.append(run)
    yield from order


def _key(run: ComparedRun) -> str:
    kept = {key: value for key, value in run.settings.items() if key not in BESIDE}
    return json.dumps(_plain(kept), sort_keys=True) if kept else ""


def _plain(value: Any) -> Any:
    """The value with whole floats as integers: 2 and 2.0 are the same setting."""
    match value:
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case float() if value.is_integer():
            return int(value)
    return value


def _reads_the_same(one: ComparedRun, other: ComparedRun) -> bool:
    """Whether what both are known to have read is the same."""
    return all(one.reads[what] == other.reads[what] for what in one.reads.keys() & other.reads.keys())


def _content(firsts: Sequence[ComparedRun]) -> Iterator[SettingRow]:
    """The content that all variants have read, where it is not the same."""
    for what in firsts[0].reads if firsts else ():
        if all(what in first.reads for first in firsts):
            digests = tuple(first.reads[what][:12] for first in firsts)
            if len(set(digests)) > 1:
                yield SettingRow(what, digests)


def _labels(groups: Sequence[Sequence[ComparedRun]], differences: Sequence[SettingRow]) -> list[str]:
    """A name for each variant: its settings that differ if they are few and it has several runs, or that of its run."""
    short = short_paths([row.path for row in differences])
    labels = []
    for number, group in enumerate(groups):
        name = group[0].name if len(group) == 1 else f"{group[0].name} and {len(group) - 1} more"
        if 0 < len(differences) <= _FEW and any(len(each) > 1 for each in groups):
            name = ", ".join(f"{path} {row.texts[number]}" for path, row in zip(short, differences, strict=True))
        labels.append(name)
    # Runs that have read different content may have equal settings, and folders in different places one name.
    return [
        label if labels.count(label) == 1 else f"{label} ({group[0].folder})"
        for label, group in zip(labels, groups, strict=True)
    ]


def _columns(variants: Sequence[Variant], metric: str) -> Iterator[FigureColumn]:
    def column(name: str, unit: FigureUnit, values: Mapping[int, list[float]]) -> Iterator[FigureColumn]:
        if any(values.values()):
            yield FigureColumn(name, unit, tuple(Figure(tuple(found)) if found else None for found in values.values()))

    if metric:
        yield from column(
            f"validation {metric}",
            "metric",
            {
                number: [run.value for run in each.finished if run.value is not None]
                for number, each in enumerate(variants)
            },
        )
    of_runs = [[_figures(run, metric) for run in variant.finished] for variant in variants]
    names = dict.fromkeys((name, unit) for runs in of_runs for found in runs for name, (unit, _) in found.items())
    for name, unit in sorted(names, key=lambda each: _ORDER.index(each[1])):
        values = {number: [found[name][1] for found in runs if name in found] for number, runs in enumerate(of_runs)}
        yield from column(name, unit, values)


_ORDER = ("metric", "share", "count", "bytes", "ms", "seconds")


def _figures(run: ComparedRun, metric: str) -> dict[str, tuple[FigureUnit, float]]:
    """The numbers of one run by name, besides the validation metric by which all are compared, if there is one."""
    found: dict[str, tuple[FigureUnit, float]] = {}
    if not metric and run.value is not None:
        found[f"validation {run.selected_by}"] = "metric", run.value
    several = len(run.table) > 1
    for row in run.table:
        asked = bool(row.get("calibration")) or is_of_confidence(row["selected_by"])
        of = f"{row['task']}." if several else ""
        for name in shown_metrics(row["metrics"], asked=asked):
            title = f"{row['split']} {of}{name}"
            if title != f"validation {metric}":  # without test rows the table has it too
                found[title] = "metric", row["metrics"][name]
        if row["agreement"] is not None:
            found[f"{of}agreement"] = "share", row["agreement"]
    if run.table:
        first = run.table[0]
        found["parameters"] = "count", first["parameters"]
        found["size"] = "bytes", first["bytes"]
        if first["latency_ms"] is not None:
            found["latency"] = "ms", first["latency_ms"]
    found["steps"] = "count", run.cost.steps
    if run.cost.computed or run.cost.cached:
        found["rows teachers computed"] = "count", run.cost.computed
        found["rows from caches"] = "count", run.cost.cached
    found["training time"] = "seconds", run.cost.seconds
    return found
