"""The key of a cache: a checksum of everything but the sample that its values depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

from kdspec.engine.export.model_folder import versions
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.teacher_cache.answered.piece_answers import PieceAnswers
from kdspec.engine.teacher_cache.codec_choice import CodecChoice
from kdspec.engine.teacher_cache.reduce import Reducing
from kdspec.engine.teacher_cache.slots import Slot
from kdspec.networks.module_digest import LIBRARIES, module_digest

FORMAT = 3
"""Changes with the layout of the files and with the computation of their values."""


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
        "versions": {name: version for name, version in versions().items() if name in LIBRARIES},
        "teacher": module_digest(forward.module),
        "features": {name: [str(path) for path in forward.features[name].paths] for name in names},
        "slots": [asdict(slot) for slot in slots],
        "codec": asdict(codecs),
        "precision": precision,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
