"""Recorded scores as the outputs of a model."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RecordedScores(nn.Module):
    """The logits are the scores, `(rows, candidates)`, with 0 in place of NaN, where there is none."""

    def forward(self, scores: Tensor) -> dict[str, Tensor]:
        """The logits, by the name that the outputs of other models have."""
        return {"logits": torch.where(scores.isnan(), 0.0, scores)}
