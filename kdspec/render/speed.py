"""The speed and memory of a run's models, each compared with the teacher of its task."""
# ruff: noqa: RUF001 - a multiplication sign is one

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from kdspec.render.clean import clean
from kdspec.render.rehearsal import number, size

SpeedCells = Mapping[str, Any]


def table(rows: Sequence[SpeedCells]) -> Table:
    """A column for each model."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("")
    several = len({row["task"] for row in rows}) > 1
    for row in rows:
        name = f"{row['model']} ({row['task']})" if several else row["model"]
        shown.add_column(clean(name), overflow="fold", style="bold" if row["role"] == "student" else "")
    figures: list[tuple[str, str, Callable[[float], str], bool]] = [
        ("parameters", "parameters", number, False),
        ("latency", "latency_ms", lambda value: f"{value:.3g} ms", False),
        ("rows per second", "rows_per_second", number, True),
        ("tokens per second", "tokens_per_second", number, True),
        ("weights", "weight_bytes", size, False),
        ("peak memory", "peak_bytes", size, False),
    ]
    shown.add_row(Text("role", "dim"), *(row["role"] for row in rows))
    for name, key, form, more in figures:
        if any(row[key] is not None for row in rows):
            cells = (_cell(row, _teacher(row, rows), key, form, more=more) for row in rows)
            shown.add_row(Text(name, "dim"), *cells)
    return shown


def caption(rows: Sequence[SpeedCells], machine: Mapping[str, Any]) -> str:
    """What was measured, and how."""
    splits = " and ".join(sorted({row["split"] for row in rows}))
    threads = f"{machine['threads']} thread{'' if machine['threads'] == 1 else 's'}"
    where = f"{machine['device']}, {threads}" if machine["device"] == "cpu" else machine["device"]
    return (
        f"on {where}, {splits} rows; latency: one row, median; throughput and memory: {machine['batch_size']} rows of "
        "similar length"
    )


def _teacher(row: SpeedCells, rows: Sequence[SpeedCells]) -> SpeedCells | None:
    taught = row["role"] != "teacher"
    return next((r for r in rows if taught and r["role"] == "teacher" and r["task"] == row["task"]), None)


def _cell(row: SpeedCells, teacher: SpeedCells | None, key: str, form: Callable[[float], str], *, more: bool) -> Text:
    value = row[key]
    if value is None:
        return Text("")
    text = Text(form(value))
    its = teacher[key] if teacher is not None else None
    if its and value:
        ratio = value / its if more else its / value
        text.append(f"  {ratio:.1f}×", "dim not bold")
    return text
