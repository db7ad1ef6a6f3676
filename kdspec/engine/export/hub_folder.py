"""The folder that `kdspec push` uploads: a model of a run, its card with what the hub reads, the spec and the report."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kdspec.api.spec.file_fields import local_folder
from kdspec.engine.evaluation.result_row import ResultRow
from kdspec.engine.export.model_card import model_index
from kdspec.hf.saved.usage import pipeline_tag
from kdspec.planning.resolved import as_yaml

CARD = "README.md"
_MARK = "---"
_BESIDE = ("spec.yaml", "report.html")
"""Files of the run that go with the model."""


@dataclass(frozen=True, kw_only=True)
class Origins:
    """What a model comes from, by the cards of its teachers and of the models that it is like."""

    base_models: tuple[str, ...]
    """Names on the hub."""
    licences: tuple[str, ...]
    """Different ones, as the hub calls them."""
    unknown: tuple[str, ...]
    """Models without a licence in their card."""


def fill(
    folder: Path, run: Path, model: Path, rows: Sequence[ResultRow], name: str, origins: Origins
) -> Mapping[str, Any]:
    """Write the folder, and return the metadata of its card.

    Args:
        folder: a new one.
        run: the run's folder.
        model: the model's folder in it.
        rows: of the run's table, those of the model.
        name: of the run.
        origins: of the model. A licence is written if all cards have the same one.
    """
    shutil.copytree(model, folder, dirs_exist_ok=True)
    for file in _BESIDE:
        if (run / file).is_file():
            shutil.copy(run / file, folder / file)
    data, text = _card(folder / CARD)
    if bases := list(dict.fromkeys((*_listed(data.get("base_model")), *origins.base_models))):
        data["base_model"] = bases[0] if len(bases) == 1 else bases
    if len(origins.licences) == 1 and not origins.unknown:
        data["license"] = origins.licences[0]
    if (tag := pipeline_tag(folder)) is not None and (index := model_index(name, rows, tag)):
        data["model-index"] = index
    (folder / CARD).write_text(f"{_MARK}\n{as_yaml(data).rstrip()}\n{_MARK}\n{text}", encoding="utf-8")
    return data


def origins(models: Mapping[str, Any], names: Sequence[str], folder: Path) -> Origins:
    """What the models of a spec come from.

    Args:
        models: the key of this name in a complete spec.
        names: the model that is uploaded, and its teachers.
        folder: where relative paths of the spec start.
    """
    bases: dict[str, None] = {}
    licences: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for path in _paths(models, names):
        place = local_folder(path, folder)
        data = _of_hub(path) if place is None else _card(place / CARD)[0]
        bases |= dict.fromkeys([path] if place is None else _listed(data.get("base_model")))
        if isinstance(licence := data.get("license"), str):
            licences[licence] = None
        else:
            unknown[path] = None
    return Origins(base_models=tuple(bases), licences=tuple(licences), unknown=tuple(unknown))


def _paths(models: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    """The folders and names on the hub from which models are loaded, those that they are like included."""
    waiting, seen = list(names), set[str]()
    while waiting:
        name = waiting.pop(0)
        if name in seen or not isinstance(component := models.get(name), dict):
            continue
        seen.add(name)
        for parameters in component.values():
            if not isinstance(parameters, dict):
                continue
            if isinstance(path := parameters.get("path"), str) and "${" not in path:
                yield path
            waiting += [value for value in parameters.values() if isinstance(value, str) and value in models]


def _of_hub(name: str) -> Mapping[str, Any]:
    """The metadata of a model on the hub; empty if it cannot be had."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        card = huggingface_hub.HfApi().model_info(name).card_data
    except (HfHubHTTPError, HFValidationError, OSError):
        return {}
    return {} if card is None else card.to_dict()


def _card(file: Path) -> tuple[dict[str, Any], str]:
    """The metadata of a model card, and its text."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}, ""
    _, mark, rest = text.partition(f"{_MARK}\n")
    head, end, body = rest.partition(f"\n{_MARK}\n")
    if not text.startswith(_MARK) or not mark or not end:
        return {}, text
    try:
        data = yaml.safe_load(head)
    except yaml.YAMLError:
        return {}, body
    return (data if isinstance(data, dict) else {}), body


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [each for each in value or () if isinstance(each, str)]
