"""What in a model's files asks for code: taken out of a folder that kdspec writes, or, if code is trusted, joined by the code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kdspec.api.spec.model_folders import read_json

ASKING = frozenset(
    {"auto_map", "custom_generate", "custom_pipelines", "kernel_config", "trust_remote_code", "use_kernels"}
)
"""Keys of a configuration by which transformers loads Python code, or kernels, from a folder or the hub."""
_IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")
"""Ends of keys with the name of an implementation. One with a slash is a repository of kernels."""
_MAP = "auto_map"

Place = tuple[Path | str, str | None]
"""A folder, or a name on the hub and the revision."""


def asks(key: str, value: Any) -> bool:
    """Whether an entry of a configuration asks for code. An integer is the number of a class that has such a name."""
    if key in ASKING:
        return type(value) is not int
    return _is_kernel(key, value)


def refuse_kernels(configuration: Mapping[str, Any], *, trusts_code: bool) -> None:
    """Raise ValueError for a configuration that names a repository of kernels, which run as code without a question."""
    if not trusts_code and any(_is_kernel(key, value) for key, value in _entries(configuration)):
        raise ValueError("a kernel of the hub needs `trust_remote_code`")


def is_beside(folder: Path) -> bool:
    """Whether the configuration of a folder names classes of Python files, and all of these are in the folder."""
    references = list(_references(read_json(folder / "config.json").get(_MAP)))
    return bool(references) and all(_file(folder, reference) is not None for reference in references)


def settle(folder: Path, *, trusts_code: bool) -> None:
    """Take all that asks for code out of the configurations below a folder.

    Args:
        folder: of a model that has been written.
        trusts_code: whether code may be named that is beside the configuration.
    """
    for file in _configurations(folder):

        def kept(reference: str, place: Path = file.parent) -> str | None:
            return reference if trusts_code and _file(place, reference) is not None else None

        _rewrite(file, kept)


def bring(folder: Path, places: Iterable[Place]) -> None:
    """Copy the code that the configurations of a folder name into the folder, and name it there.

    What is not found at one of the places is no longer named.

    Args:
        folder: of a model that has been written.
        places: where model and tokenizer are from.
    """
    known = tuple(places)
    for file in _configurations(folder):
        _rewrite(file, lambda reference, place=file.parent: _brought(reference, place, known))  # type: ignore[misc]  # a default


def _is_kernel(key: str, value: Any) -> bool:
    return key.removesuffix("_internal").endswith(_IMPLEMENTATIONS) and "/" in json.dumps(value)


def _entries(configuration: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """All keys with their values, at any depth."""
    waiting: list[Any] = [configuration]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            yield from value.items()
        waiting += value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()


def _configurations(folder: Path) -> list[Path]:
    """`tokenizer.json` and other lists of words are none: a word may be called anything."""
    return sorted(file for file in folder.rglob("*config.json") if file.is_file())


def _rewrite(file: Path, kept: Callable[[str], str | None]) -> None:
    before = read_json(file)
    after = _without(before, kept)
    if after != before:
        file.write_text(json.dumps(after, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _without(value: Any, kept: Callable[[str], str | None]) -> Any:
    if isinstance(value, list):
        return [_without(item, kept) for item in value]
    if not isinstance(value, Mapping):
        return value
    made = {}
    for key, item in value.items():
        if key == _MAP and (named := _named(item, kept)):
            made[key] = named
        elif not asks(key, item):
            made[key] = _without(item, kept)
    return made


def _named(value: Any, kept: Callable[[str], str | None]) -> Any:
    """The references of an `auto_map` that are kept: a text, a list of a slow and a fast class, or a mapping of either."""
    if isinstance(value, str):
        return kept(value)
    if isinstance(value, list):
        each = [_named(item, kept) for item in value]
        return each if any(each) else None
    if isinstance(value, Mapping):
        return {key: named for key, item in value.items() if (named := _named(item, kept))}
    return None


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, Mapping)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _references(item)


def _module(reference: str) -> str | None:
    """The name of the Python file of `module.Class`; None for a reference to another repository."""
    module, _, name = reference.partition(".")
    return f"{module}.py" if module.isidentifier() and name.isidentifier() else None


def _file(folder: Path, reference: str) -> Path | None:
    name = _module(reference)
    return folder / name if name is not None and (folder / name).is_file() else None


def _brought(reference: str, folder: Path, places: Iterable[Place]) -> str | None:
    repository, _, rest = reference.rpartition("--")
    name = _module(rest)
    if name is None:
        return None
    found = [(repository, revision) for _, revision in places] if repository else places
    for place in found:
        if (file := _fetched(place, name)) is not None and _copied(file, folder):
            return rest
    # The library has copied the class that was built.
    return rest if not repository and (folder / name).is_file() else None


def _fetched(place: Place, name: str) -> Path | None:
    where, revision = place
    if Path(where).is_dir():
        return Path(where) / name if (Path(where) / name).is_file() else None
    from huggingface_hub import try_to_load_from_cache

    for at in dict.fromkeys((revision, None)):
        try:
            file = try_to_load_from_cache(str(where), name, revision=at)
        except ValueError:  # not a name that the hub allows
            return None
        if isinstance(file, str):
            return Path(file)
    return None


def _copied(file: Path, folder: Path) -> bool:
    """Copy a Python file and those that it imports from beside itself. False if one of them is not there."""
    from transformers.dynamic_module_utils import get_relative_import_files

    try:
        needed = [file, *map(Path, get_relative_import_files(file))]
    except OSError:
        return False
    if not all(one.is_file() and one.parent == file.parent for one in needed):
        return False
    for one in needed:
        shutil.copyfile(one, folder / one.name)
    return True
