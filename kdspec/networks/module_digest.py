"""A checksum of a model: of all that its outputs depend on, but for its inputs and the versions of the libraries."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = ("torch", "transformers")
"""The libraries of whose classes the version is used, and not the code."""

# Entries of a model's configuration that do not affect its outputs: where it came from and who saved it.
_PROVENANCE = frozenset({"_name_or_path", "name_or_path", "transformers_version", "architectures"})


def module_digest(module: nn.Module) -> str:
    """A checksum of a model: its tensors by name, its structure, and the code of classes outside the libraries."""
    import torch

    digest = hashlib.sha256(repr(module).encode())
    as_data = getattr(getattr(module, "config", None), "to_dict", None)
    if as_data is not None:
        digest.update(json.dumps(_plain(as_data()), sort_keys=True, default=str).encode())
    for source in sorted(_sources(module)):
        digest.update(source.encode())
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # Bytes, not numbers: bfloat16 has no numpy type, and -0.0 and 0.0 are different weights.
        digest.update(tensor.detach().to("cpu").reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _plain(configuration: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in configuration.items() if name not in _PROVENANCE}


def _sources(module: nn.Module) -> set[str]:
    """The code of the model's classes; for those of a library its version is used instead."""
    found = set()
    for cls in {type(inner) for inner in module.modules()}:
        if cls.__module__.partition(".")[0] in LIBRARIES:
            continue
        try:
            found.add(inspect.getsource(cls))
        except (OSError, TypeError):  # created at run time, without a source file
            found.add(f"{cls.__module__}.{cls.__qualname__}")
    return found
