"""What a transformers model or a tokenizer reads besides weights, and the commit of what is from the hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from kdspec.api.kinds.model import ReadFiles
from kdspec.api.spec.model_folders import TOKENIZER_FILES, sentencepiece_files

_CONFIGURATION = "config.json"
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_OF_TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")


def read_files(
    place: Path | str, revision: str | None, at: str, *, model: bool, tokenizer: bool, code: bool
) -> Iterator[ReadFiles]:
    """What is read of a folder, or the commit of a name on the hub.

    Args:
        place: the folder, or the name on the hub.
        revision: of the hub.
        at: the parameter that names it.
        model: whether its configuration is read.
        tokenizer: whether its tokenizer is read.
        code: whether its code is run.
    """
    if isinstance(place, str):
        if (commit := _commit(place, revision)) is not None:
            yield ReadFiles(at, "commit", commit=commit)
        return
    if model:
        index = () if (place / _SINGLE).is_file() else (_INDEX,)
        yield ReadFiles(at, "configuration", _there(place, (_CONFIGURATION, *index)))
    if tokenizer:
        names = dict.fromkeys((*TOKENIZER_FILES, *_OF_TOKENIZER, *sorted(sentencepiece_files(place))))
        yield ReadFiles(at, "tokenizer", _there(place, names))
    if code:
        yield ReadFiles(at, "code", tuple(sorted(place.rglob("*.py"))))


def _there(folder: Path, names: Iterable[str]) -> tuple[Path, ...]:
    return tuple(folder / name for name in names if (folder / name).is_file())


def _commit(name: str, revision: str | None) -> str | None:
    """The commit that the download cache has; None if it has none."""
    from huggingface_hub import try_to_load_from_cache

    for file in (_CONFIGURATION, "tokenizer.json", "tokenizer_config.json"):
        try:
            found = try_to_load_from_cache(name, file, revision=revision)
        except ValueError:  # not a name that the hub allows
            return None
        if isinstance(found, str):
            return Path(found).parent.name
    return None
