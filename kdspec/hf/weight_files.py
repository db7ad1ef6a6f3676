"""The files with the weights that transformers loads, from a model folder or from the download cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kdspec.api.spec.file_fields import local_folder
from kdspec.api.spec.model_folders import read_json
from kdspec.hf.families import written

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"


def weight_files(path: str | None, revision: str | None, spec: Path) -> tuple[Path, ...]:
    """The safetensors of a model: one file, or those that its index lists; empty if they are not on this machine.

    Args:
        path: the folder, or the name on the hub; None for a model that is not loaded.
        revision: the revision on the hub; None for the default one.
        spec: the folder of the spec.
    """
    if path is None:
        return ()
    folder = local_folder(path, spec)
    own = written(path, revision, folder).get("transformers_weights")  # the library's own key for another name
    names = [name for name in (own, _SINGLE, _INDEX) if isinstance(name, str)]
    file = next((file for name in names if (file := _find(name, path, revision, folder)) is not None), None)
    if file is None or file.suffix != ".json":
        return () if file is None else (file,)
    return tuple(_shards(file, path, revision, folder))


def _shards(index: Path, path: str, revision: str | None, folder: Path | None) -> Iterator[Path]:
    listed = read_json(index).get("weight_map", {})
    for name in dict.fromkeys(listed.values()):
        if (file := _find(str(name), path, revision, folder)) is not None:
            yield file


def _find(name: str, path: str, revision: str | None, folder: Path | None) -> Path | None:
    if folder is not None:
        return folder / name if (folder / name).is_file() else None
    from huggingface_hub import try_to_load_from_cache

    try:
        file = try_to_load_from_cache(path, name, revision=revision)
    except ValueError:  # not a name that the hub allows
        return None
    return Path(file) if isinstance(file, str) else None
