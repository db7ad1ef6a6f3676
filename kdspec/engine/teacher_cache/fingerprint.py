"""The key of a cache: a checksum of everything but the sample that its values depend on."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import nn

from kdspec.engine.export.model_folder import versions
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.teacher_cache.answered.piece_answers import PieceAnswers
from kdspec.engine.teacher_cache.codec_choice import CodecChoice
from kdspec.engine.teacher_cache.codecs import array
from kdspec.engine.teacher_cache.reduce import Reducing
from kdspec.engine.teacher_cache.slots import Slot

FORMAT = 3
"""Changes with the layout of the files and with the computation of their values."""

_LIBRARIES = ("torch", "transformers")
# Entries of a model's configuration that do not affect its outputs: where it came from and who saved it.
_PROVENANCE = frozenset({"_name_or_path", "name_or_path", "transformers_version", "architectures"})


def key(
    forward: ModelRunner | Reducing | PieceAnswers, slots: Sequence[Slot], codecs: CodecChoice, precision: str
) -> str:
    """The name of a cache: 32 hexadecimal digits.

    Args:
        forward: the teacher; the key depends on its parameters, buffers, structure and field paths.
        slots: the stored tensors of a sample.
        codecs: how they are stored.
        precision: the precision in which the teacher runs.
    """
    names = dict.fromkeys(slot.feature for slot in slots)
    parts = {
        "format": FORMAT,
        "versions": {name: version for name, version in versions().items() if name in _LIBRARIES},
        "teacher": teacher(forward.module),
        "features": {name: [str(path) for path in forward.features[name].paths] for name in names},
        "slots": [asdict(slot) for slot in slots],
        "codec": asdict(codecs),
        "precision": precision,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def teacher(module: nn.Module) -> str:
    """A checksum of a model: its tensors by name, its structure, and the code of classes outside the libraries."""
    digest = hashlib.sha256(repr(module).encode())
    as_data = getattr(getattr(module, "config", None), "to_dict", None)
    if as_data is not None:
        digest.update(json.dumps(_plain(as_data()), sort_keys=True, default=str).encode())
    for source in sorted(_sources(module)):
        digest.update(source.encode())
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # Bytes, not numbers: bfloat16 has no numpy type, and -0.0 and 0.0 are different weights.
        digest.update(array(tensor.detach().to("cpu").reshape(-1)).view("uint8").data)
    return digest.hexdigest()


def _plain(configuration: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in configuration.items() if name not in _PROVENANCE}


def _sources(module: nn.Module) -> set[str]:
    """The code of the model's classes; for those of a library its version is used instead."""
    found = set()
    for cls in {type(inner) for inner in module.modules()}:
        if cls.__module__.partition(".")[0] in _LIBRARIES:
            continue
        try:
            found.add(inspect.getsource(cls))
        except (OSError, TypeError):  # created at run time, without a source file
            found.add(f"{cls.__module__}.{cls.__qualname__}")
    return found
