"""What earlier looks have found, on disk, by a digest of all that it depends on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from kdspec.api.working.task import BuiltTask, Row
from kdspec.data.cache_folder import cache_folder
from kdspec.engine.batches.columnar import Lists, Packed
from kdspec.engine.batches.loader import Loader
from kdspec.engine.export.model_folder import versions
from kdspec.engine.preflight.facts import TaskFacts, dumps, loads
from kdspec.engine.preflight.repeated_rows import plain
from kdspec.networks.module_digest import module_digest
from kdspec.source import read_back

FORMAT = 1
"""Changes with what is stored and how it is computed."""
FOLDER = "preflight"
"""Subfolder of the cache folder, next to the teacher caches."""
_MOST_FILES = 500
_MOST_ROWS = 50_000
"""Rows of which digests are made one by one."""


def key(settings: Mapping[str, Any], modules: Mapping[str, nn.Module], rows: Mapping[str, Sequence[str]]) -> str:
    """The name of a file: 64 hexadecimal digits.

    Args:
        settings: JSON data that the answers depend on.
        modules: the models; the key depends on their weights and structure.
        rows: digests of the rows of each task.
    """
    parts = {
        "format": FORMAT,
        "versions": dict(versions()),
        "settings": settings,
        "models": {name: module_digest(module) for name, module in modules.items()},
        "rows": {name: list(digests) for name, digests in rows.items()},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def digest(task: BuiltTask, loader: Loader) -> str | None:
    """A digest of the encoded rows of a loader and of their texts; None if rows have values that have none."""
    made = hashlib.sha256(loader.split.encode())
    for model in {reader: model for model, reader in loader.readers.items()}.values():
        for rows in loader.encoded(model).values():
            if not _add(made, rows):
                return None
    for texts in task.texts(loader.split):
        made.update(json.dumps(texts).encode())
    return made.hexdigest()


def read(name: str) -> tuple[TaskFacts, ...] | None:
    """The facts of a key; None if there are none."""
    file = cache_folder() / FOLDER / f"{name}.json"
    with contextlib.suppress(OSError, ValueError):
        found = loads(read_back.content(file))
        file.touch()
        return found
    return None


def write(name: str, tasks: Sequence[TaskFacts]) -> None:
    """Keep the facts of a key, as far as the disk allows; the least recently used ones make room."""
    folder = cache_folder() / FOLDER
    temporary = folder / f".{name}.{secrets.token_hex(4)}.tmp"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        files = sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
        for old in files[: max(0, len(files) + 1 - _MOST_FILES)]:
            old.unlink(missing_ok=True)
        # A unique name, since several runs may write at once.
        temporary.write_bytes(dumps(tasks))
        temporary.replace(folder / f"{name}.json")


def _add(made: Any, rows: Sequence[Row]) -> bool:
    if isinstance(rows, Packed):
        return all(_add_column(made, key, rows.column(key)) for key in sorted(rows[0]))
    if len(rows) > _MOST_ROWS:
        return False
    for row in rows:
        for key in sorted(row):
            value = plain(row[key])
            if value is None and not callable(row[key]):
                return False
            made.update(f"{key}\0{value}\0".encode(errors="surrogatepass"))
    return True


def _add_column(made: Any, name: str, column: Sequence[Any]) -> bool:
    made.update(name.encode())
    if isinstance(column, Lists):
        for array in (column.lengths, column.flat):
            made.update(np.ascontiguousarray(array).view("uint8").data)
        return True
    for value in column:
        words = plain(value)
        if words is None:
            return False
        made.update(words.encode(errors="surrogatepass"))
    return True
