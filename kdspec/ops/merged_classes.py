"""Logits of classes of which some are one: their probabilities add up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kdspec.ops.precision import widened


def merged_logits(logits: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """For each group of classes `log Σ exp(z)` over its members, so that softmax gives it the sum of their probabilities.

    For log-probabilities it is the logarithm of the sum of the probabilities. A class that is alone keeps its logit, bit for
    bit. At a temperature T the merged logits are divided by it, so the probabilities are added at T = 1.

    Args:
        logits: `(..., classes)`; -inf for a class that has the probability 0.
        groups: for each new class the positions of those that become it, at least one; a class in no group is left out.

    Returns:
        `(..., groups)`, in the type of `logits`; sums are computed in float32 or wider.
    """
    merged = logits[..., torch.tensor([group[0] for group in groups], device=logits.device)]
    for number, group in enumerate(groups):
        if len(group) > 1:
            members = widened(logits[..., torch.tensor(tuple(group), device=logits.device)])
            merged[..., number] = members.logsumexp(-1).to(logits.dtype)
    return merged
