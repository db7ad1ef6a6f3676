"""A model in torch and in ONNX side by side: what differs, what it scores, its size and its speed."""
# ruff: noqa: RUF001 - a multiplication sign is one

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from kdspec.data.confidence import shown
from kdspec.render.clean import clean
from kdspec.render.rehearsal import size

if TYPE_CHECKING:
    from kdspec.engine.export.onnx.latency import Timing
    from kdspec.engine.export.onnx.result import Exported, ExportedForm


def quality(forms: Sequence[ExportedForm]) -> Table:
    """A row for each form: size, difference from torch, agreement with it, and metrics."""
    names = shown(dict.fromkeys(name for form in forms for name in form.metrics), asked=False)
    agrees = any(form.agreement is not None for form in forms)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("", "size", "largest difference", *(("same answers",) if agrees else ()), *names):
        table.add_column(clean(heading), overflow="fold", justify="left" if not heading else "right")
    for form in forms:
        cells = [
            Text(form.form),
            _beside(size(form.bytes), forms[0].bytes / form.bytes if form is not forms[0] else None),
        ]
        largest = max(form.difference.values(), key=lambda each: each.relative, default=None)
        cells.append(Text("" if largest is None else f"{largest.absolute:.2g} ({100 * largest.relative:.2g} %)"))
        if agrees:
            cells.append(Text("" if form.agreement is None else f"{100 * form.agreement:.2f} %"))
        cells += [Text(f"{form.metrics[name]:.4f}" if name in form.metrics else "") for name in names]
        table.add_row(*cells)
    return table


def latency(forms: Sequence[ExportedForm]) -> Table:
    """A row for each batch and number of threads, a column for each form."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("batch")
    table.add_column("threads", justify="right")
    for form in forms:
        table.add_column(form.form, justify="right")
    for timings in zip(*(form.timings for form in forms), strict=True):
        first = timings[0]
        cells = [
            _beside(f"{each.milliseconds:.3g} ms", None if each is first else first.milliseconds / each.milliseconds)
            for each in timings
        ]
        table.add_row(_batch(first), str(first.threads), *cells)
    return table


def caption(exported: Exported) -> str:
    """What was measured, and on what."""
    text = f"`{exported.model}` on {exported.rows:,} {exported.split} rows"
    if not exported.rows:
        text = f"`{exported.model}` has no rows to be evaluated on; its outputs are compared on {exported.split} rows"
    if exported.agrees_on is not None and any(form.agreement is not None for form in exported.forms):
        text += f"; same answers as torch: {exported.agrees_on}"
    text += "; difference: of an output, and relative to its largest value; latency: median on this machine"
    return clean(text)


def _batch(timing: Timing) -> str:
    rows = f"{timing.rows} row{'' if timing.rows == 1 else 's'}"
    return f"{rows} of {timing.tokens} tokens" if timing.tokens else rows


def _beside(text: str, ratio: float | None) -> Text:
    found = Text(text)
    if ratio is not None:
        found.append(f"  {ratio:.1f}×", "dim")
    return found
