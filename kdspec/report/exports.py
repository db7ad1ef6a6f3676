"""The section of the report on models of the run that were exported."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from pydantic import BaseModel

from kdspec.api.report import Report, Section
from kdspec.source import read_back
from kdspec.source.read_back import Count, Damage, Form

_FOLDER, _FILE = "onnx", "check.json"


class _FormOfModel(BaseModel):
    """What is read of a form of the model."""

    form: str
    bytes: Count
    agreement: float | None
    metrics: dict[str, float | None]


class _Check(BaseModel):
    """What is read of `check.json`."""

    model: str
    task: str
    split: str
    rows: Count
    primary: str
    forms: list[_FormOfModel]


_CHECK: Form[_Check] = Form(_Check)


def export_sections(report: Report) -> Iterator[Section]:
    """The files in `onnx/` of the run's folder, with size and metric beside the model in torch."""
    found = [
        (file.parent, check) for file in sorted((report.folder / _FOLDER).glob(f"*/{_FILE}")) if (check := _read(file))
    ]
    if not found:
        return
    head = "".join(f"<th>{name}</th>" for name in ("folder", "form", "size", "rows", "metric", "answers as in torch"))
    body = "".join(row for folder, check in found for row in _rows(folder, check))
    yield Section("Exported models", f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>\n</table>")


def _rows(folder: Path, check: _Check) -> Iterator[str]:
    files = {"torch": "in torch", "onnx": "model.onnx", "int8": "model-int8.onnx"}
    for form in check.forms:
        metric = form.metrics.get(check.primary)
        cells = (
            f"{_FOLDER}/{folder.name}",
            files.get(form.form, form.form),
            f"{form.bytes / 1e6:.1f} MB",
            f"{check.rows:,} {check.split}",
            "" if metric is None else f"{check.primary} {metric:.4f}",
            "" if form.agreement is None else f"{100 * form.agreement:.2f} %",
        )
        yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _read(file: Path) -> _Check | None:
    """A check; None for a file that is damaged or gone, since an export can be written again."""
    try:
        return read_back.read(file, _CHECK)
    except (OSError, Damage):
        return None
