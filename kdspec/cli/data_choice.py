"""A data file of the command line as the rows of a task: which data set reads it, and which columns it has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import typer

from kdspec.api.component import Component
from kdspec.api.kinds.context import DatasetContext
from kdspec.api.kinds.kinds import Dataset, Task
from kdspec.cli.guess_columns import Guess, guess, is_column_name, separator
from kdspec.cli.spec_library import relative
from kdspec.cli.spec_template import DataChoice, scalar
from kdspec.data.columns import MANY_COLUMNS
from kdspec.data.numbers import is_missing, number
from kdspec.diagnostics.diagnostic import did_you_mean, excerpt, listed, near, one_line
from kdspec.diagnostics.fault import Fault
from kdspec.registry.registry import Registry

_LOOKED_AT = 400
_BEGINNING = 2**16
_LINES = 20
_ENOUGH, _SHARE = 100, "0.1"
"""From how many rows on a new spec has validation rows, and which share they are."""
_SMALL = 2**22
"""Bytes of a file that is read as a whole for what is wrong with it."""
_PACKED = (".gz", ".bz2", ".xz")
_TAGGED = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".bioes", ".bmes")
_TABLES: Mapping[str, str] = MappingProxyType(
    {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
)


@dataclass(frozen=True)
class DataFile:
    """A file, the data set that reads it, and what its first rows look like."""

    file: Path
    name: str
    """The component."""
    settings: Mapping[str, Any]
    """Its parameters besides `train`."""
    rows: Mapping[str, Sequence[Any]]
    """The first rows by column; the columns are empty if reading them would take long."""
    found: Guess

    def choice(
        self, task: type[Task], folder: Path, text: Sequence[str], label: str | None, *, taught: bool = False
    ) -> DataChoice:
        """The rows of a task in a spec in `folder`; `text` and `label` are columns that the user names.

        Where there is no label, the rows of a task that is `taught` by a teacher with its head need none.
        """
        columns = dict(_columns(task, self.found, tuple(text), label))
        _check(columns, self.rows)
        if task.logits == "numbers" and isinstance(named := columns.get("label"), str):
            _check_numbers(named, self.rows.get(named, ()), task)
        settings = {key: _written(value) for key, value in columns.items()}
        mark = separator(self.rows.get(str(columns.get("label")), ())) if task.logits == "labels" else None
        if mark is not None and "separator" in task.model_fields:
            settings["separator"] = json.dumps(mark)
        own = {key: json.dumps(value) for key, value in self.settings.items()}
        share, others = (
            ({"validation": _SHARE}, "`validation` may be a file; also")
            if self.has_enough
            else ({}, "and `validation`,")
        )
        parameters = {"train": scalar(relative(self.file, folder)), **share, **own}
        shown = ", ".join(f"{key}: {value}" for key, value in parameters.items())
        labelled = not taught or "label" in columns
        return DataChoice(f"{{{self.name}: {{{shown}}}}} # {others} `test`, `unlabelled`", settings, labelled)

    @property
    def has_enough(self) -> bool:
        """Whether a tenth of the rows can be left out of training, to see which student is the best."""
        return self.name in _TABLES.values() and max(map(len, self.rows.values()), default=0) >= _ENOUGH


def data_file(registry: Registry, file: Path) -> DataFile:
    """Look at a file: its suffix, its first bytes and its first rows."""
    name, settings = _reader(file)
    rows = _first(registry, file, name, settings)
    more = _nested(rows) if name == "json" else _nameless(rows) if name == "csv" and "columns" not in settings else {}
    if more:
        settings = {**settings, **more}
        rows = _first(registry, file, name, settings)
    found = guess(rows)
    if "columns" in more:
        note = (
            f"its first row is data, so `columns` names them: {', '.join(f'`{column}`' for column in more['columns'])}"
        )
        found = replace(found, reasons=(note, *found.reasons))
    return DataFile(file, name, settings, rows, found)


def _first(registry: Registry, file: Path, name: str, settings: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
    """The first rows by column; empty columns of a large file.

    Raises:
        typer.BadParameter: the file cannot be read, or has no rows.
    """
    component: type[Component] = registry.get(Dataset.kind, name)
    made = component.model_validate({"train": [file.name], **settings}, context={"registry": registry})
    assert isinstance(made, Dataset), "of the kind that was asked for"
    context = DatasetContext(folder=file.parent)
    try:
        rows = made.first(context, _LOOKED_AT)
        if rows is None and file.stat().st_size <= _SMALL:
            made.build(context)  # raises what is wrong with it
        if rows is None:
            return dict.fromkeys(made.column_names(context).get("train", ()), ())
    except Fault as fault:
        raise typer.BadParameter(one_line(fault.message, fault.help), param_hint="--data") from fault
    if not any(map(len, rows.values())):
        raise typer.BadParameter(f"{file} has no rows", param_hint="--data")
    return rows


def _nested(rows: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The key of a JSON object that has the rows: the only list of objects in it."""
    if max(map(len, rows.values()), default=0) != 1:
        return {}
    lists = [name for name, values in rows.items() if values and _objects(values[0])]
    return {"field": lists[0]} if len(lists) == 1 else {}


def _objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _nameless(rows: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Names for the columns of a table whose first row is data: numbers above numbers, or a value of its column."""
    if not rows or any(is_column_name(name) for name in rows):
        return {}
    repeated = any(name in values for name, values in rows.items())
    numbers = any(
        values and number(name) is not None and all(number(value) is not None for value in values)
        for name, values in rows.items()
    )
    return {"columns": [f"column_{place}" for place in range(1, len(rows) + 1)]} if repeated or numbers else {}


def _reader(file: Path) -> tuple[str, dict[str, Any]]:
    """The data set for a file, and its parameters."""
    suffix = Path(file.stem).suffix.lower() if file.suffix.lower() in _PACKED else file.suffix.lower()
    start = _start(file) if suffix == file.suffix.lower() else ""
    if suffix in _TAGGED or (suffix not in _TABLES and _tagged(start)):
        return "conll", {}
    if suffix == ".json" and '"paragraphs"' in start:
        return "squad", {}
    if suffix == ".tsv":
        return "csv", {"delimiter": "\t", "quoting": False}
    if (suffix == ".csv" or suffix not in _TABLES) and (mark := _delimiter(start)) is not None:
        return "csv", {"delimiter": mark}
    if suffix not in _TABLES and "\t" not in start.partition("\n")[0] and "," not in start.partition("\n")[0]:
        return "csv", {"columns": ["text"], "delimiter": "\t", "quoting": False}
    return _TABLES.get(suffix, "csv"), {}


def _delimiter(start: str) -> str | None:
    """What separates the fields of a table without commas in its first line, as Excel writes it in half of Europe."""
    lines = [line for line in start.split("\n")[:_LINES] if line.strip()]
    if not lines or "," in lines[0]:
        return None
    return next((mark for mark in (";", "\t", "|") if all(mark in line for line in lines)), None)


def _start(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(_BEGINNING).decode("utf-8-sig", "replace")
    except OSError:
        return ""


def _tagged(start: str) -> bool:
    """Whether lines are words with their tags: as many fields each, and blank lines between sentences."""
    lines = start.split("\n")[:-1]
    fields = [len(line.split()) for line in lines if line.strip()]
    return bool(fields) and fields[0] > 1 and fields.count(fields[0]) > 0.9 * len(fields) and len(fields) < len(lines)


def _columns(task: type[Task], found: Guess, text: tuple[str, ...], label: str | None) -> list[tuple[str, Any]]:
    """The parameters of the task that name columns, as far as they are known."""
    if task.name == "token_classification":
        named = [("tokens", (text or found.text)[:1]), ("tags", label or found.label)]
        given = [(key, value[0] if isinstance(value, tuple) else value) for key, value in named if value]
        return [(key, value) for key, value in given if value != key]  # those of the task are left out
    pair = text or found.text
    columns: list[tuple[str, Any]] = []
    if "text" in task.model_fields and pair:
        columns.append(("text", pair[0] if len(pair) == 1 else list(pair)))
    if "label" in task.model_fields and (label or found.label):
        columns.append(("label", label or found.label))
    return columns


def _check(columns: Mapping[str, Any], rows: Mapping[str, Sequence[Any]]) -> None:
    """Refuse a column of the command line that the file lacks."""
    for key, value in columns.items():
        for column in value if isinstance(value, list) else [value]:
            if rows and column not in rows:
                question, option = (
                    did_you_mean(near(column, rows)),
                    "--text" if key in ("text", "tokens") else "--label",
                )
                hint = f"{f'{question} ' if question else ''}there are {listed([*rows], MANY_COLUMNS)}"
                raise typer.BadParameter(f"the file has no column `{column}`; {hint}", param_hint=option)


def _check_numbers(column: str, values: Sequence[Any], task: type[Task]) -> None:
    """Refuse a column of texts as the numbers of a task."""
    wrong = next((v for v in values if not is_missing(v, ()) and not isinstance(v, list) and number(v) is None), None)
    if wrong is not None:
        raise typer.BadParameter(
            f"`{task.name}` learns numbers, and `{column}` has `{excerpt(str(wrong))}`; --label names another column",
            param_hint="--task",
        )


def _written(value: str | list[str]) -> str:
    return scalar(value) if isinstance(value, str) else f"[{', '.join(map(scalar, value))}]"
