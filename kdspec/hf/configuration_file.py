"""The entries of a `config.json`, and the files of a tokenizer, checked as far as kdspec knows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdspec.api.spec.model_folders import written_mapping
from kdspec.diagnostics.fault import Fault
from kdspec.hf import entries, families, tokenizer_files
from kdspec.source.read_back import Damage

_CODE = "KD503"
_BESIDE = ("tokenizer_config.json", "special_tokens_map.json")
_AGAIN = "correct the file, or copy it again from where the tokenizer is from"


def mistakes(configuration: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Entries that no model can have, each with the reason; of families that are not listed only those of the labels.

    Args:
        configuration: the content of the file.
    """
    for key, kind, words in (
        ("id2label", dict, "an object"),
        ("label2id", dict, "an object"),
        ("num_labels", int, "an integer"),
    ):
        value = configuration.get(key)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            yield key, f"expected {words}"
    family = configuration.get("model_type")
    own = entries.ENTRIES.get(family) if isinstance(family, str) else None
    if own is None:
        return
    known = {key: value for key, value in configuration.items() if key in own}
    empty = (
        key for key in (*families.LAYER_NAMES, *families.WIDTH_NAMES, *families.HEAD_NAMES) if known.get(key, 0) is None
    )
    yield from ((key, "expected an integer, not `null`") for key in empty)
    faults = [fault for key, value in known.items() if key in entries.SIZES for fault in entries.not_a_size(key, value)]
    faults += entries.out_of_range({key: value for key, value in known.items() if key not in entries.SIZES})
    yield from ((str(fault.at[-1]), fault.message) for fault in faults)
    found = families.facts(configuration)
    written = next((key for key in families.HEAD_NAMES if key in known), None)
    if faults or family not in families.EVEN_HEADS or written is None or found.width is None or found.heads is None:
        return
    if found.width % found.heads:
        yield written, f"a width of {found.width} cannot be split into {found.heads} attention heads"


def damaged_tokenizer(folder: Path, at: tuple[str | int, ...]) -> Iterator[Fault]:
    """Faults of a tokenizer's JSON files that cannot be read, or say something else than a tokenizer's.

    Args:
        folder: the tokenizer's folder.
        at: the place of a fault.
    """
    if tokenizer_files.read(folder) is None:  # it is kept, so a good file is read once in a plan
        try:
            tokenizer_files.backend(folder)
        except FileNotFoundError:
            pass
        except (OSError, Damage) as damage:
            yield _damaged("tokenizer.json", str(damage), at)
    elif not tokenizer_files.has_model(folder):
        yield _damaged("tokenizer.json", "it has no `model`", at)
    for name in _BESIDE:
        try:
            found = written_mapping(folder / name)
        except FileNotFoundError:
            continue
        except (OSError, Damage) as damage:
            yield _damaged(name, str(damage), at)
            continue
        if not isinstance(found.get("tokenizer_class"), str | None):
            yield _damaged(name, "its `tokenizer_class` is no text", at)


def _damaged(name: str, damage: str, at: tuple[str | int, ...]) -> Fault:
    return Fault(_CODE, f"`{name}` is damaged: {damage}", at, help=_AGAIN)
