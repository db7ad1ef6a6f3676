"""The validation metric of several runs by the value of a setting in which they differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kdspec.report.comparison.compared_run import ComparedRun
from kdspec.report.comparison.setting_table import ABSENT, NOTHING, equal, shown
from kdspec.report.comparison.variant import Figure, RunComparison

Scale = Literal["linear", "logarithmic", "categories"]
_DECADES = 2
"""A range of more decades has a logarithmic axis."""
_LARGEST = 1e300
"""Larger numbers have no place in a picture."""


@dataclass(frozen=True)
class SettingValue:
    """A value of a setting, with the finished runs that have it."""

    value: Any
    variants: Mapping[int, Sequence[ComparedRun]]
    """The runs by the number of their variant; each has a finite value of the metric."""

    @property
    def runs(self) -> list[ComparedRun]:
        """All its runs, by variant."""
        return [run for runs in self.variants.values() for run in runs]

    @property
    def figure(self) -> Figure:
        """The metric of its runs."""
        return metric_of(self.runs)

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation over seeds: of the metric of one variant, of the mean of several that have the same seeds.

        None for a single seed, and for variants with different seeds.
        """
        if len(self.variants) == 1:
            return self.figure.deviation
        seeds = [sorted(str(run.seed) for run in runs) for runs in self.variants.values()]
        if any(each != seeds[0] for each in seeds) or len({*seeds[0]}) < len(seeds[0]):
            return None
        of_seeds = [metric_of([run for run in self.runs if str(run.seed) == seed]).mean for seed in seeds[0]]
        return Figure(tuple(of_seeds)).deviation

    @property
    def text(self) -> str:
        """The value as a spec writes it."""
        return NOTHING if self.value is ABSENT else shown(self.value)


@dataclass(frozen=True)
class SettingEffect:
    """A setting with its values."""

    path: str
    values: tuple[SettingValue, ...]

    @property
    def scale(self) -> Scale:
        """Numbers are on an axis of numbers, which is logarithmic if they are above 0 and span more than two decades."""
        values = [each.value for each in self.values]
        if not all(map(_is_number, values)):
            return "categories"
        low, high = min(values), max(values)
        return "logarithmic" if low > 0 and math.log10(high) - math.log10(low) > _DECADES + 1e-9 else "linear"


def metric_of(runs: Sequence[ComparedRun]) -> Figure:
    """The validation metric of runs that have it."""
    return Figure(tuple(run.value for run in runs if run.value is not None))


def setting_effects(
    found: RunComparison, swept: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[SettingEffect]:
    """Each setting with the runs that have a value of the validation metric; none of fewer than two different values.

    Args:
        found: the runs.
        swept: of a sweep, for the path of each of its settings the value by the name of the run. None: the settings that
            differ, if these are fewer than the variants; the effects of more could not be told apart.
    """
    if not found.metric or (swept is None and len(found.differences) >= len(found.variants)):
        return
    of_variants = {row.path: row.values for row in found.differences}
    for path in of_variants if swept is None else swept:
        values: list[tuple[Any, dict[int, list[ComparedRun]]]] = []
        for number, variant in enumerate(found.variants):
            for run in filter(_has_place, variant.finished):
                value = of_variants[path][number] if swept is None else swept[path].get(run.name, ABSENT)
                runs = next((runs for other, runs in values if equal(other, value)), None)
                if runs is None:
                    values.append((value, runs := {}))
                runs.setdefault(number, []).append(run)
        if len(values) > 1:
            yield SettingEffect(path, tuple(SettingValue(value, runs) for value, runs in values))


def _has_place(run: ComparedRun) -> bool:
    return run.value is not None and -_LARGEST < run.value < _LARGEST


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST
