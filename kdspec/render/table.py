"""The models of a run side by side: quality, size and speed, compared with the teacher."""
# ruff: noqa: RUF001 - a multiplication sign is one

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from kdspec.data.confidence import is_of_confidence, shown
from kdspec.data.embedding.repeated_metrics import repeated
from kdspec.engine.evaluation.result_row import measured_beside
from kdspec.render.clean import clean

_NO_COST = "-"
_SMALL = 1e5

TableCells = Mapping[str, Any]
"""A row as `table.json` has it."""


@dataclass(frozen=True)
class Cell:
    """A figure, and its comparison with the teacher's."""

    text: str
    beside: str = ""


@dataclass(frozen=True)
class Column:
    """A heading and a cell for each model."""

    name: str
    cells: tuple[Cell, ...]
    number: bool = True


def columns(rows: Sequence[TableCells]) -> tuple[Column, ...]:
    """The table as text, for the terminal and the report; empty columns are omitted.

    So are the metrics of confidence, unless one of them selects the best student or a student is calibrated, and those with
    the dot product of vectors of unit length.
    """
    found = [
        Column("model", tuple(Cell(row["model"]) for row in rows), number=False),
        Column("role", tuple(Cell(row["role"]) for row in rows), number=False),
    ]
    if len({row["task"] for row in rows}) > 1:
        found.append(Column("task", tuple(Cell(row["task"]) for row in rows), number=False))
    asked = any(row.get("calibration") or is_of_confidence(row["selected_by"]) for row in rows)
    names = shown(dict.fromkeys(metric for row in rows for metric in row["metrics"]), asked=asked)
    twice = repeated((row["metrics"] for row in rows), {row["selected_by"] for row in rows})
    names = [name for name in names if name not in twice]
    found += [Column(name, tuple(_metric(row, _teacher(row, rows), name) for row in rows)) for name in names]
    found += [
        Column("agreement", tuple(Cell(_percent(row["agreement"])) for row in rows)),
        Column("parameters", tuple(_parameters(row, _teacher(row, rows)) for row in rows)),
        Column("size", tuple(Cell(_NO_COST if _recorded(row) else _size(row["bytes"])) for row in rows)),
        Column("latency", tuple(_latency(row, _teacher(row, rows)) for row in rows)),
    ]
    return tuple(column for column in found if any(cell.text for cell in column.cells))


def _teacher(row: TableCells, rows: Sequence[TableCells]) -> TableCells | None:
    """The first teacher of a model's task, or of any."""
    teachers = [each for each in rows if each["role"] == "teacher"]
    return next((each for each in teachers if each["task"] == row["task"]), next(iter(teachers), None))


def caption(rows: Sequence[TableCells]) -> str:
    """What was measured, and how."""
    text = _measured(rows)
    compared = {row["task"]: row["agrees_on"] for row in rows if row["agreement"] is not None}
    if compared:
        several = max(Counter(row["task"] for row in rows if row["role"] == "teacher").values(), default=1) > 1
        tasks = len({row["task"] for row in rows}) > 1
        counted = dict.fromkeys(f"{what} ({task})" if tasks else what for task, what in compared.items())
        text += f"; agreement with the {'first ' if several else ''}teacher: {', '.join(counted)}"
    if any(row.get("calibration") for row in rows):
        text += "; before: without the calibration"
    if any(row["latency_ms"] is not None for row in rows):
        text += "; latency: one row, median"
    return text + (f"; {_NO_COST}: its answers are recorded" if any(map(_recorded, rows)) else "")


def _measured(rows: Sequence[TableCells]) -> str:
    """Which rows the metrics are of, and how many of them have a label if not all do."""
    evaluated = {row["task"]: row for row in rows if row["split"]}
    splits = sorted({row["split"] for row in evaluated.values() if row["labelled"]})
    text = f"metrics of the {' and '.join(splits)} rows" if splits else "there were no rows to evaluate on"
    if evaluated and not splits:
        text = f"no row of {' and '.join(sorted({row['split'] for row in evaluated.values()}))} has a label"
    for row in {row["task"]: row for row in rows if row.get("beside")}.values():
        of = f" of task `{row['task']}`" if len(evaluated) > 1 else ""
        text += (
            f"; {measured_beside(shown(row['metrics'], asked=is_of_confidence(row['selected_by'])), row['beside'])}{of}"
        )
    for task, row in evaluated.items():
        of = f" of task `{task}`" if len(evaluated) > 1 else ""
        if 0 < row["labelled"] < row["rows"]:
            text += f"; {row['labelled']:,} of {row['rows']:,} {row['split']} rows{of} have a label"
        elif splits and not row["labelled"]:
            text += f"; no {row['split']} row{of} has a label"
    if any(math.isnan(value) for row in rows for value in row["metrics"].values()):
        text += "; nan: all predicted or all true numbers are equal"
    return text


def table(rows: Sequence[TableCells]) -> Table:
    """The table for a terminal: models as columns, which is narrower than models as rows."""
    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    names, *figures = columns(rows)
    made.add_column("")
    for name, row in zip(names.cells, rows, strict=True):
        made.add_column(clean(name.text), overflow="fold", style="bold" if row["role"] == "student" else "")
    for column in figures:
        made.add_row(Text(clean(column.name), "dim"), *map(_cell, column.cells))
    return made


def count(number: float) -> str:
    """`4.4 M` for 4,386,178."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.1f} {letter}"
    return f"{number:g}"


def _cell(cell: Cell) -> Text:
    return Text(clean(cell.text)).append(f"  {cell.beside}" if cell.beside else "", "dim not bold")


def _metric(row: TableCells, teacher: TableCells | None, name: str) -> Cell:
    value = row["metrics"].get(name)
    if value is None:
        return Cell("")
    before = (row.get("calibration") or {}).get("before", {}).get(name)
    if before is not None and is_of_confidence(name):
        return Cell(f"{value:.4f}", f"before {before:.4f}")
    its = None
    compared = teacher is not None and row["role"] != "teacher" and row["task"] == teacher["task"]
    if name == row["selected_by"] and teacher is not None and compared:
        its = teacher["metrics"].get(name)
    # The share of the teacher's value is meaningful only if higher is better.
    if its is None or name in row["lower_is_better"] or not (_positive(its) and _positive(value)):
        return Cell(f"{value:.4f}")
    return Cell(f"{value:.4f}", f"{100 * value / its:.1f} % of teacher")


def _size(count: int) -> str:
    return f"{count / 1e3:.1f} kB" if count < _SMALL else f"{count / 1e6:.1f} MB"


def _recorded(row: TableCells) -> bool:
    """Whether the model has no weights: its answers are in the rows, and nothing that was measured is a cost of its own."""
    return row["parameters"] is None


def _parameters(row: TableCells, teacher: TableCells | None) -> Cell:
    if _recorded(row):
        return Cell(_NO_COST)
    its = teacher["parameters"] if teacher is not None and row is not teacher else 0
    ratio = its / row["parameters"] if its and row["parameters"] else 1.0
    return Cell(count(row["parameters"]), f"{ratio:.1f}× fewer" if ratio >= 1.05 else "")


def _latency(row: TableCells, teacher: TableCells | None) -> Cell:
    value = row["latency_ms"]
    if value is None:
        return Cell(_NO_COST if _recorded(row) else "")
    its = teacher["latency_ms"] if teacher is not None and row is not teacher else None
    ratio = its / value if its and value else 1.0
    return Cell(f"{value:.1f} ms" if value >= 1 else f"{value:.2f} ms", f"{ratio:.1f}× faster" if ratio >= 1.05 else "")


def _percent(part: float | None) -> str:
    return "" if part is None else f"{100 * part:.1f} %"


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0
