"""Probabilities as logits: their logarithms, so that a softmax at any temperature is that of the probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence

LEAST = 1.1754943508222875e-38
"""The smallest normal number of float32. A smaller probability, such as 0, counts as this one: its logarithm is -87.3."""


def log(probability: float) -> float:
    """The logarithm; of 0 that of `LEAST`."""
    return math.log(max(probability, LEAST))


def logits_of(probabilities: Sequence[float]) -> list[float]:
    """The logarithms log p, of which softmax(log p / T) is proportional to p^(1/T); divided by their sum."""
    total = math.fsum(probabilities)
    return [log(each / total) for each in probabilities]


def logit(probability: float) -> float:
    """The logit log p - log(1 - p), of which the sigmoid is p; between -87.3 and 87.3."""
    return log(probability) - log(1 - probability)


def log_sum(logs: Sequence[float]) -> float:
    """The logarithm of Σ exp, without overflow; of one number that number."""
    if len(logs) == 1:
        return logs[0]
    largest = max(logs)
    return largest + math.log(math.fsum(math.exp(each - largest) for each in logs))
