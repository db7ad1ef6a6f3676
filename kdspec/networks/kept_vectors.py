"""Vectors of tokens on disk, by a checksum of all that they depend on: a large vocabulary takes minutes."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kdspec.data.cache_folder import cache_folder, put
from kdspec.hf import heads
from kdspec.networks.module_digest import LIBRARIES, module_digest
from kdspec.source import read_back
from kdspec.source.read_back import Damage

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = 1
"""Changes with the computation of the vectors."""
FOLDER, SUFFIX = "vectors", ".safetensors"
"""Subfolder of the cache folder, next to the teacher caches, and how the names of its files end."""
LEAST = 2000
"""Number of tokens below which nothing is kept: they take a second or two."""
MOST = 2_000_000_000
"""Maximum total size of the files in bytes; the least recently used ones are deleted."""

_NAME, _CHECKSUM = "vectors", "checksum"


def kept(module: nn.Module, rows: Sequence[Sequence[int]], width: int, make: Callable[[], Tensor]) -> Tensor:
    """The vectors that `make` returns for these rows of this model, from the cache if it has them.

    If the disk fails, they are made and not kept.

    Args:
        module: the model that makes the vectors.
        rows: the token ids of each row.
        width: of the vectors, when they are returned.
        make: computes them, `(rows, width)` in float32.
    """
    if len(rows) < LEAST:
        return make()
    file = cache_folder() / FOLDER / f"{_key(module, rows, width)}{SUFFIX}"
    with contextlib.suppress(OSError):
        if (found := _read(file, (len(rows), width))) is not None:
            file.touch()
            return found
    made = make()
    with contextlib.suppress(OSError):
        _write(file, made)
    return made


def _key(module: nn.Module, rows: Sequence[Sequence[int]], width: int) -> str:
    readout = {"pooling": module.readout.pooling} if heads.is_embedder(module) else {}
    about = {
        "format": FORMAT,
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "model": module_digest(module),
        "readout": readout,
        "rows": rows,
        "width": width,
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _read(file: Path, shape: tuple[int, int]) -> Tensor | None:
    """The vectors of a file; None if it does not exist or is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        expected = read_back.tensor_header(file).metadata.get(_CHECKSUM)
        # Not mapped: a file that gets shorter meanwhile would end the process with SIGBUS.
        found = load(file.read_bytes()).get(_NAME)
    except (FileNotFoundError, Damage, SafetensorError):
        return None
    whole = found is not None and tuple(found.shape) == shape and _checksum(found) == expected
    return found if whole else None


def _write(file: Path, vectors: Tensor) -> None:
    from safetensors.torch import save

    put(file, save({_NAME: vectors.contiguous()}, {_CHECKSUM: _checksum(vectors)}), MOST)


def _checksum(vectors: Tensor) -> str:
    import torch

    about = f"{vectors.dtype} {tuple(vectors.shape)}\n".encode()
    return hashlib.sha256(about + vectors.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
