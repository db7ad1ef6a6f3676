"""Content-addressed cache of encoded texts on disk, so that a large data set is tokenised only once."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from kdspec.data.cache_folder import cache_folder, put
from kdspec.source.read_back import Count, Damage, Form, tensor_header

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = 1
FOLDER = "rows"
"""Subfolder of the cache folder, next to the teacher caches."""
SUFFIX = ".safetensors"
LEAST = 2_000_000
"""Number of characters below which texts are not cached; about as many are tokenised in a second."""
MOST = 4_000_000_000
"""Maximum total size of the files in bytes; the least recently used files are deleted."""

_BEGINNING = 40
"""Number of characters of the first text that `kdspec cache` shows."""

EncodedRows = list[dict[str, Any]]


def kept(
    columns: Sequence[Sequence[str]], tokenizer: Any, longest: int | None, make: Callable[[], EncodedRows]
) -> EncodedRows:
    """The rows that `make` returns for these texts, tokenizer and limit, from the cache if it has them.

    Every value of a row is a list of integers; the lists of one row have equal lengths. A file is named by the checksum of
    its inputs, stores a checksum of its contents, and is moved into place when complete, so that several runs can read and
    write at once. If the disk fails, the rows are made and not cached.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or sum(map(len, chain.from_iterable(columns))) < LEAST:
        return make()
    file = cache_folder() / FOLDER / f"{_key(columns, tokenizer, longest)}{SUFFIX}"
    with contextlib.suppress(OSError):
        if (found := _read(file)) is not None:
            file.touch()
            return found
    rows = make()
    with contextlib.suppress(OSError):
        _write(file, rows, _about(columns, tokenizer))
    return rows


@dataclass(frozen=True)
class EncodedAbout:
    """What a file says of its rows."""

    rows: Count = 0
    tokenizer: str = ""
    text: str = ""
    """The beginning of the first text."""


_ABOUT: Form[EncodedAbout] = Form(EncodedAbout, strict=False)  # its numbers are strings


def about(file: Path) -> EncodedAbout:
    """What a file says of its rows, from its header alone.

    Raises:
        FileNotFoundError: there is none.
        Damage: its header is not one that `kept` writes.
    """
    return _ABOUT.of(dict(tensor_header(file).metadata))


def _about(columns: Sequence[Sequence[str]], tokenizer: Any) -> dict[str, str]:
    name = PurePath(str(tokenizer.name_or_path))
    first = " ".join(columns[0][0][:_BEGINNING].split()) if columns[0] else ""
    # Only the last part of a folder, since the rest differs between machines; the whole of a name on the hub.
    return {"rows": str(len(columns[0])), "tokenizer": name.name if name.is_absolute() else str(name), "text": first}


def _key(columns: Sequence[Sequence[str]], tokenizer: Any, longest: int | None) -> str:
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    for setting in ("truncation", "padding"):  # they depend on the tokenizer's last call
        state.pop(setting, None)
    about = {
        "format": FORMAT,
        "versions": [importlib.metadata.version(name) for name in ("tokenizers", "transformers")],
        "tokenizer": state,
        "class": type(tokenizer).__name__,
        "inputs": list(tokenizer.model_input_names),
        "truncation_side": tokenizer.truncation_side,
        "longest": longest,
        "columns": [len(column) for column in columns],
    }
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for text in chain.from_iterable(columns):
        data = text.encode(errors="surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def _read(file: Path) -> EncodedRows | None:
    """The rows of a file; None if it does not exist or is damaged."""
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        expected = tensor_header(file).metadata.get("checksum")
        # Not mapped: a file that gets shorter meanwhile would end the process with SIGBUS.
        arrays = load(file.read_bytes())
    except (FileNotFoundError, Damage, SafetensorError, TypeError, KeyError):  # of a type that numpy lacks
        return None
    if expected != _checksum(arrays) or not _are_rows(arrays):
        return None
    ends = np.cumsum(arrays.pop("lengths")).tolist()
    starts = [0, *ends[:-1]]
    columns = {name: flat.tolist() for name, flat in arrays.items()}
    return [{name: flat[a:b] for name, flat in columns.items()} for a, b in zip(starts, ends, strict=True)]


def _are_rows(arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Whether arrays are as `_write` makes them: integers, of as many tokens as the lengths of the rows say."""
    if "lengths" not in arrays or any(array.ndim != 1 or array.dtype.kind != "i" for array in arrays.values()):
        return False
    lengths = arrays["lengths"]
    tokens = {len(array) for name, array in arrays.items() if name != "lengths"}
    # Each length is bounded first, so that the sum cannot overflow.
    bounded = bool(lengths.size) and len(tokens) == 1 and lengths.min() >= 0 and lengths.max() <= max(tokens)
    return bounded and int(lengths.sum()) in tokens


def _write(file: Path, rows: EncodedRows, metadata: Mapping[str, str]) -> None:
    import numpy as np
    from safetensors.numpy import save

    lengths = np.fromiter((len(next(iter(row.values()))) for row in rows), np.int64, len(rows))
    arrays: dict[str, NDArray[Any]] = {"lengths": lengths}
    for name in rows[0]:
        arrays[name] = np.fromiter(chain.from_iterable(row[name] for row in rows), np.int32, int(lengths.sum()))
    data = save(arrays, {"checksum": _checksum(arrays), **metadata})
    put(file, data, MOST)


def _checksum(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
