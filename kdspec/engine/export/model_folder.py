"""Model folders: the versions of the libraries that made them, and the size of their weights."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from kdspec.hf.embedding.sentence_folder import tensor_files


@cache
def versions() -> Mapping[str, str]:
    """The versions of the libraries on which a result depends."""
    return MappingProxyType(versions_of(("kdspec", "torch", "transformers", "datasets", "safetensors")))


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """The versions of some installed packages."""
    return {name: importlib.metadata.version(name) for name in names}


def size(folder: Path) -> int:
    """Bytes of the weights in a model folder."""
    # Not recursive: a model of several tasks has a folder for each, with the weights of the encoder again.
    return sum(path.stat().st_size for path in (*folder.glob("*.safetensors"), *tensor_files(folder)))
