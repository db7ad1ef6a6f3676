"""Asks a teacher for the answers of pieces, and has it put those of a row together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kdspec.api.paths.field_path import parse
from kdspec.api.plan.plan import Feature
from kdspec.api.working.batch import Batch
from kdspec.api.working.step import Features
from kdspec.engine.forward.model_runner import ModelRunner
from kdspec.engine.teacher_cache.kept_positions import Masks

ANSWERS = "answers"
"""The one feature of a piece."""
MASKS = Masks(Feature(name="inputs_mask", paths=(parse("batch.attention_mask"),), several=False), None)
"""The mask of a batch of pieces."""


class PieceAnswers:
    """Wraps a teacher's `ModelRunner`, whose module puts answers together: its one feature is the answer for a piece.

    Args:
        forward: the teacher.
    """

    def __init__(self, forward: ModelRunner) -> None:
        self.forward = forward
        self.name, self.module, self.inputs = forward.name, forward.module, forward.inputs
        self.features = {ANSWERS: Feature(name=ANSWERS, paths=(), several=False)}

    def __call__(self, batch: Batch) -> Features:
        """The answers for a batch of pieces."""
        return Features({ANSWERS: self.forward.answers(batch)})

    def of_batch(self, batch: Batch, names: Iterable[str]) -> Mapping[str, Any]:
        """As for the teacher."""
        return self.forward.of_batch(batch, names)

    def put_together(self, batch: Batch, answers: Tensor, mask: Tensor | None) -> Features:
        """The teacher's features of rows; see `ModelRunner.put_together`."""
        return self.forward.put_together(batch, answers, mask)


def tokens_of(batch: Batch) -> NDArray[np.int64]:
    """The number of tokens of each piece of a batch of rows, in the order of the pieces."""
    masks = [tensors["attention_mask"] for tensors in batch.inputs.values() if "attention_mask" in tensors]
    counts: Sequence[NDArray[np.int64]] = [(mask != 0).sum(1).cpu().numpy() for mask in masks]
    return np.concatenate(counts) if counts else np.empty(0, np.int64)
