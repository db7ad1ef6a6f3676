"""Several runs side by side, for the terminal and as data: figures, differences, and what is unfinished."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from kdspec.render.clean import clean
from kdspec.render.progress import duration
from kdspec.render.table import count
from kdspec.report.comparison.setting_table import ABSENT, SettingRow
from kdspec.report.comparison.variant import Figure, FigureColumn, FigureUnit, RunComparison, Variant

_ACROSS = 4
"""Variants that are columns of the terminal's table; more of them are rows."""
_WORD = 16
"""Letters of a word in a heading that are not broken."""
BEST = "best"


def as_data(found: RunComparison) -> dict[str, Any]:
    """The comparison as data for JSON.

    Keys: `metric` and `lower_is_better` (of the validation metric by which variants are compared; empty if they have none in
    common), `best` (the label of the best variant, or null), `variants`, `runs`, `differences`, `content` and `versions`.

    - A variant has `label`, `runs` (names) and `figures`: for each the `unit`, the `mean`, the sample standard `deviation`
      over the finished runs (null for a single one) and their `values`.
    - A run has `name`, `folder`, `variant`, `status`, `reason`, `seed`, `validation` (the metrics of the best student),
      `table` (the student's rows of `table.json`) and `cost`.
    - A difference has `path` and for each variant a value; a variant without it is left out.
    """
    labels = [variant.label for variant in found.variants]
    return {
        "metric": found.metric,
        "lower_is_better": found.lower_is_better,
        "best": None if found.best is None else labels[found.best],
        "variants": [
            {
                "label": variant.label,
                "runs": [run.name for run in variant.runs],
                "figures": {
                    column.name: _data(figure, column.unit)
                    for column in found.columns
                    if (figure := column.figures[number]) is not None
                },
            }
            for number, variant in enumerate(found.variants)
        ],
        "runs": [
            {
                "name": run.name,
                "folder": str(run.folder),
                "variant": variant.label,
                "status": run.status,
                "reason": run.reason,
                "seed": run.seed,
                "validation": {name: _number(value) for name, value in run.validation.items()},
                "table": [
                    {**row, "metrics": {name: _number(value) for name, value in row["metrics"].items()}}
                    for row in run.table
                ],
                "cost": vars(run.cost),
            }
            for variant in found.variants
            for run in variant.runs
        ],
        "differences": [_difference(row, labels) for row in found.differences],
        "content": [_difference(row, labels) for row in found.content],
        "versions": [_difference(row, labels) for row in found.versions],
    }


def figure_text(figure: Figure | None, unit: FigureUnit) -> str:
    """A figure with its deviation: `0.8123 ± 0.0045`; empty without one."""
    if figure is None:
        return ""
    mean = number_text(figure.mean, unit)
    if not figure.deviation:
        return mean
    return f"{mean} ± {number_text(figure.deviation, unit)}"


def number_text(value: float, unit: FigureUnit) -> str:
    """A number with its unit, as the table of a run has it."""
    if not math.isfinite(value):
        return str(value)
    match unit:
        case "metric":
            return f"{value:.4f}"
        case "share":
            return f"{100 * value:.1f} %"
        case "count":
            return count(value)
        case "bytes":
            return f"{value / 1e6:.1f} MB"
        case "ms":
            return f"{value:.1f} ms" if value >= 1 else f"{value:.2f} ms"
        case "seconds":
            return duration(value)


def runs_text(variant: Variant) -> str:
    """How many runs a variant has, and how many of them are finished if not all are."""
    if len(variant.finished) == len(variant.runs):
        return f"{len(variant.runs)}"
    return f"{len(variant.finished)} of {len(variant.runs)} finished"


def table(found: RunComparison) -> Table:
    """The figures of the variants: variants as columns if they are few, else as rows.

    Sizes and costs that are the same for all are left out: `common` has them.
    """
    grid = list(_grid(found))
    return _drawn([list(column) for column in zip(*grid, strict=True)] if len(found.variants) <= _ACROSS else grid)


def common(found: RunComparison) -> str:
    """The sizes and costs that are the same for all variants, on one line; empty without any."""
    listed = ", ".join(f"{column.name} {_known(column)[0]}" for column in found.columns if is_common(column))
    return f"the same for all: {listed}" if listed else ""


def differences(found: RunComparison) -> Table | None:
    """The settings, content and versions that differ, by variant; None if nothing does."""
    rows = [*found.differences, *found.content, *found.versions]
    if not rows or len(found.variants) < 2:
        return None
    grid = [["", *(variant.label for variant in found.variants)], *([row.path, *row.texts] for row in rows)]
    return _drawn([list(column) for column in zip(*grid, strict=True)] if len(found.variants) > _ACROSS else grid)


def _drawn(grid: Sequence[Sequence[str]]) -> Table:
    """A table whose first row has the headings."""
    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(grid[0]):
        word = max(map(len, clean(heading).split()), default=0)
        made.add_column(clean(heading), overflow="fold", style="" if number else "dim", min_width=min(word, _WORD))
    for row in grid[1:]:
        made.add_row(*(Text(clean(cell)) for cell in row))
    return made


def caption(found: RunComparison) -> str:
    """What the figures are, and how the best variant is chosen."""
    parts = []
    if any(len(variant.runs) > 1 for variant in found.variants):
        parts.append("mean ± standard deviation over the finished runs that differ only in the seed")
    direction = "lowest" if found.lower_is_better else "highest"
    if found.best is not None:
        parts.append(f"best: the {direction} validation {found.metric}; test rows have no part in the choice")
        if found.equals:
            parts.append(f"equally good: {' and '.join(variant.label for variant in found.equals)}")
    elif len(found.variants) > 1:
        parts.append(f"no best is named: {_why_none(found)}")
    return "; ".join(parts)


def _why_none(found: RunComparison) -> str:
    if not found.metric:
        some = any(run.selected_by for run in found.runs)
        return "the runs are selected by different metrics" if some else "no run has a validation metric"
    if any(row.path.startswith("rows of validation") for row in found.content):
        return "the validation rows are not the same"
    return f"fewer than two variants have all their runs finished, with validation {found.metric}"


def open_lines(found: RunComparison) -> Iterator[str]:
    """A line for each run that is not finished, and for each damaged line of a log."""
    for run in found.runs:
        if run.status != "finished":
            yield clean(f"{run.folder}: {run.status}" + (f": {run.reason}" if run.reason else ""))
    for run in found.runs:
        yield from (clean(f"{run.folder}: {text}") for text in run.damaged)


def _grid(found: RunComparison) -> Iterator[list[str]]:
    """Headings and a row for each variant, as text."""
    several = any(len(variant.runs) > 1 for variant in found.variants)
    columns = [column for column in found.columns if not is_common(column)]
    yield ["", *(("runs",) if several else ()), *(column.name for column in columns)]
    for number, variant in enumerate(found.variants):
        label = f"{variant.label} ({BEST})" if number == found.best else variant.label
        cells = (_texts(column)[number] for column in columns)
        yield [label, *((runs_text(variant),) if several else ()), *cells]


def _texts(column: FigureColumn) -> list[str]:
    return [figure_text(figure, column.unit) for figure in column.figures]


def _known(column: FigureColumn) -> list[str]:
    """The figures of the variants that have one: one whose runs are all unfinished has none."""
    return [text for text in _texts(column) if text]


def is_common(column: FigureColumn) -> bool:
    """Whether a size or a cost is the same for all of several variants."""
    return column.unit != "metric" and len(column.figures) > 1 and len({*_known(column)}) == 1


def _data(figure: Figure, unit: FigureUnit) -> dict[str, Any]:
    deviation = figure.deviation
    return {
        "unit": unit,
        "mean": _number(figure.mean),
        "deviation": deviation,
        "values": [_number(value) for value in figure.values],
    }


def _difference(row: SettingRow, labels: Sequence[str]) -> dict[str, Any]:
    values = {label: value for label, value in zip(labels, row.values, strict=True) if value is not ABSENT}
    return {"path": row.path, "values": values}


def _number(value: float) -> float | str:
    """JSON has no NaN and no infinities: they are the strings `nan` and `inf`, as in the log."""
    return value if math.isfinite(value) else str(value)
