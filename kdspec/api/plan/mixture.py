"""How several teachers are one: a mean of their outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """How several teachers of a task are one, for metrics beside them: the mean of their logits, unless a strategy declares it."""

    of: Literal["logits", "probabilities"] = "logits"
    """What is averaged; probabilities are those at the temperature 1."""
    shares: tuple[float, ...] | Literal["confidence"] | None = None
    """The weights of the teachers, with the sum 1; `confidence`: those of `ops.ensemble.confidence`; None: equal weights."""
