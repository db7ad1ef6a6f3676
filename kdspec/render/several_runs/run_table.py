"""Renders the list of runs in a folder, as a table and as data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from rich.table import Table
from rich.text import Text

from kdspec.render.clean import clean
from kdspec.render.progress import number
from kdspec.render.rehearsal import size
from kdspec.report.run_list import ListedRun

_STYLES: Mapping[str, str] = MappingProxyType(
    {"finished": "green", "running": "cyan", "stopped": "yellow", "failed": "red", "damaged": "red"}
)
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_LONGEST = 60
"""Letters of the reason why a run failed."""


def run_table(runs: Sequence[ListedRun], now: datetime) -> Table:
    """A row for each run.

    Args:
        runs: in the order of the rows.
        now: the time from which ages are counted.
    """
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row(*(Text(name, "dim") for name in ("run", "state", "best", "size", "age", "")))
    for run in runs:
        table.add_row(
            Text(clean(run.name), "bold"),
            Text(run.state, _STYLES[run.state]),
            Text("" if run.value is None else f"{clean(run.metric)} {number(run.value)}"),
            Text(size(run.bytes)),
            Text(age((now - run.changed).total_seconds())),
            Text(_short(clean(run.detail)), "dim"),
        )
    return table


def run_data(run: ListedRun, now: datetime) -> dict[str, Any]:
    """A run as data for JSON.

    Args:
        run: the run.
        now: the time from which its age is counted.
    """
    value = run.value if run.value is not None and math.isfinite(run.value) else None
    return {
        "name": run.name,
        "folder": str(run.folder),
        "state": run.state,
        "detail": run.detail,
        "metric": run.metric,
        "value": value,
        "lower_is_better": run.lower_is_better,
        "bytes": run.bytes,
        "checkpoint_bytes": run.checkpoint_bytes,
        "changed": run.changed.isoformat(timespec="seconds"),
        "age_seconds": max(0, round((now - run.changed).total_seconds())),
    }


def age(seconds: float) -> str:
    """`12 s`, `5 min`, `3 h` or `40 d`."""
    whole = max(0, int(seconds))
    length, unit = next(((length, unit) for length, unit in _UNITS if whole >= length), _UNITS[-1])
    return f"{whole // length} {unit}"


def _short(text: str) -> str:
    first = text.partition("\n")[0]
    return first if len(first) <= _LONGEST else f"{first[: _LONGEST - 1]}…"
