"""The record of a calibration in the configuration of a saved model; the weights have it already."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdspec.engine.run.durable_files import atomic_write
from kdspec.source import read_back

KEY = "kdspec_calibration"
"""The entry of `config.json`: `temperature`, or `scale` and `bias` of each class."""


def write(folder: Path, calibration: Mapping[str, Mapping[str, Any]]) -> None:
    """Write what was fitted into the configuration of a folder, or of the folder of each task in it.

    An earlier record, such as that of the files that the student comes from, is of other weights and goes. A model without
    a `config.json` has no record.

    Args:
        folder: the model's.
        calibration: that of the stage, by task.
    """
    for task, found in calibration.items():
        if (folder / task).is_dir():
            _record(folder / task / "config.json", found["values"])
    whole = {} if any((folder / task).is_dir() for task in calibration) else calibration
    for file in folder.rglob("config.json"):
        of_task = file.parent.name in calibration and file.parent != folder
        if not of_task:
            _record(file, next((found["values"] for found in whole.values()), None))


def _record(file: Path, values: Mapping[str, Any] | None) -> None:
    if not file.is_file():
        return
    configuration = read_back.mapping(file)
    if values is None and KEY not in configuration:
        return
    kept = {key: value for key, value in configuration.items() if key != KEY}
    written = kept if values is None else {**kept, KEY: dict(values)}
    atomic_write(file, json.dumps(written, indent=2, ensure_ascii=False) + "\n")
