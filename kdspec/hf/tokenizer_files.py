"""What the files of a tokenizer say about token ids and padding, without loading it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, JsonValue

from kdspec.api.spec.model_folders import read_json
from kdspec.hf.padding import Padding
from kdspec.source import read_back
from kdspec.source.read_back import Count, Damage, Form

_CONFIGURATION = "tokenizer_config.json"
_BACKEND = "tokenizer.json"
_MOST_BYTES, _MOST_VALUES = 128 * 2**20, 4_000_000
"""Of a `tokenizer.json`; those of large multilingual models have 33 MB and 2 million values."""
_NAMES = ("special_tokens_map.json", _CONFIGURATION)

# Entries of `tokenizer_config.json` on which token ids do not depend: names, padding, and how ids become text again.
_OTHER = frozenset(
    """
    added_tokens_decoder additional_special_tokens auto_map backend chat_template clean_up_tokenization_spaces
    extra_special_tokens is_local local_files_only mask_token model_input_names model_specific_special_tokens name_or_path
    pad_to_multiple_of pad_token pad_token_type_id padding padding_side processor_class special_tokens_map_file
    tokenizer_file vocab_file merges_file
    """.split()  # noqa: SIM905 - a list of one a line is no better to read
)


@dataclass(frozen=True)
class TokenizerFiles:
    """A tokenizer in a folder."""

    ids: str
    """A checksum of `tokenizer.json`: with different ones, some texts have different token ids."""
    whole: str
    """A checksum of all that token ids may depend on: with equal ones, all texts have equal token ids."""
    pads: bool
    """Whether it has a padding token that is not its end token."""
    padding: int | None
    """The id of that token, if it is in `tokenizer.json`."""
    models: bool = True
    """Whether `tokenizer.json` has a model, without which it makes no tokens."""


class _Token(BaseModel):
    id: Count
    content: str = ""


class _Model(BaseModel):
    vocab: dict[str, Count] | list[JsonValue] | None = None


class _Backend(BaseModel):
    model: _Model | None = None
    added_tokens: list[_Token] | None = None


_FORM: Form[_Backend] = Form(_Backend)


@dataclass(frozen=True)
class TokenizerJson:
    """A `tokenizer.json`."""

    data: Mapping[str, Any]
    form: _Backend

    def tokens(self) -> int | None:
        """The number of tokens; None if its vocabulary has an unsupported format."""
        vocabulary = None if self.form.model is None else self.form.model.vocab
        if vocabulary is None:
            return None
        numbers = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
        return len({*numbers, *(token.id for token in self.form.added_tokens or ())})

    def id_of(self, token: str | None) -> int | None:
        """The id of a token that was added to the vocabulary."""
        return next((each.id for each in self.form.added_tokens or () if each.content == token), None)


def backend(folder: Path) -> TokenizerJson:
    """The `tokenizer.json` of a folder.

    Raises:
        FileNotFoundError: there is none.
        Damage: it cannot be read, or is no tokenizer.
    """
    data = read_back.mapping(folder / _BACKEND, most=_MOST_BYTES, values=_MOST_VALUES)
    model = data.get("model")
    # Without the merges, which are most of it.
    of_use = {"vocab": model.get("vocab")} if isinstance(model, dict) else model
    return TokenizerJson(data, _FORM.of({"model": of_use, "added_tokens": data.get("added_tokens")}))


def read(folder: Path) -> TokenizerFiles | None:
    """The files of a folder; None without a `tokenizer.json` that can be read."""
    return _read(folder, tuple(_stamp(folder / name) for name in (_BACKEND, *_NAMES)))


@lru_cache(maxsize=16)
def _read(folder: Path, stamps: tuple[tuple[int, ...] | None, ...]) -> TokenizerFiles | None:
    """The files with these stamps: a plan asks for the same ones once for each match and model."""
    del stamps
    try:
        found = backend(folder)
    except (OSError, Damage):
        return None
    names: dict[str, Any] = {}
    for file in _NAMES:
        names |= read_json(folder / file)
    pad, end = _text(names.get("pad_token")), _text(names.get("eos_token"))
    of_use = {key: value for key, value in found.data.items() if key not in ("truncation", "padding", "version")}
    ids = _checksum(_plain(of_use))
    settings = {key: value for key, value in read_json(folder / _CONFIGURATION).items() if key not in _OTHER}
    whole = _checksum([ids, _plain(settings)])
    models = isinstance(found.data.get("model"), dict)
    return TokenizerFiles(ids, whole, pads=pad is not None and pad != end, padding=found.id_of(pad), models=models)


def has_model(folder: Path) -> bool:
    """Whether the `tokenizer.json` of a folder, which can be read, has a model."""
    files = read(folder)
    return files is not None and files.models


def identity(place: Path | str, revision: str, padding: Padding) -> str:
    """A text that is equal for two models if they can share the tokenizer: its token ids, and how it pads.

    Args:
        place: its folder, or its name on the hub.
        revision: of the hub.
        padding: what the model asks for.
    """
    files = read(place) if isinstance(place, Path) else None
    name = f"{place}@{revision}" if isinstance(place, str) else str(place.resolve()) if files is None else files.whole
    if padding.left:
        name += ", padded on the left"
    if files is not None and not files.pads:
        name += f", padding {padding.token}"
    if files is not None and files.padding is not None and padding.vocabulary is not None:
        name += f", of {padding.vocabulary} tokens" if files.padding >= padding.vocabulary else ""
    return name


def token_ids(place: Path | str) -> str | None:
    """A checksum of what decides the token ids of texts; None without a folder, or without `tokenizer.json` in it."""
    files = read(place) if isinstance(place, Path) else None
    return None if files is None else files.ids


def _stamp(file: Path) -> tuple[int, ...] | None:
    """What changes with the contents of a file; None without the file."""
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _text(token: Any) -> str | None:
    """The text of a special token, which may be written with its settings."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _plain(value: Any) -> Any:
    """The value without entries that are empty or off: versions of the libraries differ in writing them."""
    if isinstance(value, dict):
        made = {key: _plain(item) for key, item in value.items()}
        return {key: item for key, item in made.items() if item not in (None, False, [], {})}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _checksum(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
