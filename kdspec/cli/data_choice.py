"""A data file of the command line as the rows of a task: which data set reads it, and which columns it has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import typer

from kdspec.api.component import Component
from kdspec.api.kinds.context import BuildContext
from kdspec.api.kinds.kinds import Dataset, Task
from kdspec.cli.guess_columns import Guess, guess, separator
from kdspec.cli.spec_library import relative
from kdspec.cli.spec_template import DataChoice, scalar
from kdspec.diagnostics.diagnostic import closest
from kdspec.diagnostics.fault import Fault
from kdspec.registry.registry import Registry

_LOOKED_AT = 400
_BEGINNING = 2**16
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
    """The first rows by column; empty if they cannot be read, which `kdspec validate` reports."""
    found: Guess

    def choice(self, task: type[Task], folder: Path, text: Sequence[str], label: str | None) -> DataChoice:
        """The rows of a task in a spec in `folder`; `text` and `label` are columns that the user names."""
        columns = dict(_columns(task, self.found, tuple(text), label))
        _check(columns, self.rows)
        settings = {key: _written(value) for key, value in columns.items()}
        mark = separator(self.rows.get(str(columns.get("label")), ())) if task.logits == "labels" else None
        if mark is not None and "separator" in task.model_fields:
            settings["separator"] = json.dumps(mark)
        own = {key: json.dumps(value) for key, value in self.settings.items()}
        parameters = {"train": scalar(relative(self.file, folder)), **own}
        shown = ", ".join(f"{key}: {value}" for key, value in parameters.items())
        return DataChoice(f"{{{self.name}: {{{shown}}}}} # and `validation`, `test`, `unlabelled`", settings)


def data_file(registry: Registry, file: Path) -> DataFile:
    """Look at a file: its suffix, its first bytes and its first rows."""
    name, settings = _reader(file)
    component: type[Component] = registry.get(Dataset.kind, name)
    rows: Mapping[str, Sequence[Any]] = {}
    try:
        made = component.model_validate({"train": [file.name], **settings}, context={"registry": registry})
        assert isinstance(made, Dataset), "of the kind that was asked for"
        context = BuildContext(folder=file.parent)
        rows = made.first(context, _LOOKED_AT) or dict.fromkeys(made.column_names(context).get("train", ()), ())
    except (Fault, ValueError):
        pass  # `kdspec validate` and the run report it at its place
    return DataFile(file, name, settings, rows, guess(rows))


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
    if suffix not in _TABLES and "\t" not in start.partition("\n")[0] and "," not in start.partition("\n")[0]:
        return "csv", {"columns": ["text"], "delimiter": "\t", "quoting": False}
    return _TABLES.get(suffix, "csv"), {}


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
                near = closest(column, rows)
                hint = f"did you mean `{near}`?" if near else f"there are {', '.join(f'`{name}`' for name in rows)}"
                option = "--text" if key in ("text", "tokens") else "--label"
                raise typer.BadParameter(f"the file has no column `{column}`; {hint}", param_hint=option)


def _written(value: str | list[str]) -> str:
    return scalar(value) if isinstance(value, str) else f"[{', '.join(map(scalar, value))}]"
