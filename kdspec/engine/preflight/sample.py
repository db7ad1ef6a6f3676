"""How many rows a model is asked before a stage, and which."""

from __future__ import annotations

import random
from collections.abc import Sequence

from torch import nn

from kdspec.api.working.task import BuiltTask
from kdspec.engine.batches.loader import Loader
from kdspec.engine.batches.sampler import fold

BATCH = 32
_MOST, _FEWEST = 300, 32
_ON_CPU, _ELSEWHERE = 1.5e11, 2e13
"""Multiplications and additions that may be spent on the answers of a model: a second or two."""


def affordable(module: nn.Module, loader: Loader, model: str) -> int:
    """How many rows may be asked, by the size of the model and the length of the rows."""
    lengths = loader.lengths_for(model)
    tokens = float(lengths.mean()) if len(lengths) else 1.0
    inner = [p for name, p in module.named_parameters() if "embedding" not in name]
    of_row = 2 * sum(parameter.numel() for parameter in inner) * max(tokens, 1.0)
    device = next((parameter.device.type for parameter in module.parameters()), "cpu")
    return min(_MOST, max(_FEWEST, int((_ON_CPU if device == "cpu" else _ELSEWHERE) / max(of_row, 1.0))))


def sample(rows: Sequence[int], task: BuiltTask, loader: Loader, seed: int, most: int) -> list[int]:
    """At most so many of the rows, always the same. Long texts may be several rows, which stay together."""
    if loader.rows != task.rows(loader.split):
        return list(rows[:most])
    return sorted(random.Random(fold(seed, "preflight")).sample(rows, min(most, len(rows))))  # noqa: S311 - no secrets
